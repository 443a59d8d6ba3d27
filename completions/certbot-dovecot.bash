# bash completion for certbot-dovecot                                   -*- shell-script -*-
# Subcommands, their options, lineages, and files; tests/unit/test_completion.py compares it with the command's parser.

_certbot_dovecot_lineages() {
    # What certbot has, and what the store has: CONFIG_DIR is that of this command line.
    local dir=/etc/letsencrypt path i
    for ((i = 1; i + 1 < ${#COMP_WORDS[@]}; i++)); do
        if [[ ${COMP_WORDS[i]} == --config-dir ]]; then
            # "=" is a word of its own here.
            [[ ${COMP_WORDS[i + 1]} == = ]] && dir=${COMP_WORDS[i + 2]} || dir=${COMP_WORDS[i + 1]}
        fi
    done
    dir=${dir/#\~\//$HOME/}
    for path in "$dir"/renewal/*.conf "$dir"/dovecot/*/state.json; do
        [[ -e $path ]] || continue
        path=${path%/state.json}
        path=${path##*/}
        printf '%s\n' "${path%.conf}"
    done
}

_certbot_dovecot() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command= options= i
    local servers="--config-dir --server-root --postfix-root --postfix-services --store"
    COMPREPLY=()
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        # What follows a double dash is certbot's.
        [[ ${COMP_WORDS[i]} == -- ]] && return
        [[ -z $command && ${COMP_WORDS[i]} != -* ]] && command=${COMP_WORDS[i]}
    done
    case $prev in
        --config-dir | --server-root | --postfix-root | --store)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        --cert | --key | --chain | --ca-bundle | --prometheus)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --lineage)
            mapfile -t COMPREPLY < <(compgen -W "$(_certbot_dovecot_lineages)" -- "$cur")
            return
            ;;
        --postfix-services)
            mapfile -t COMPREPLY < <(compgen -W "submission all none" -- "$cur")
            return
            ;;
        --key-type)
            mapfile -t COMPREPLY < <(compgen -W "ecdsa rsa" -- "$cur")
            return
            ;;
        --elliptic-curve)
            mapfile -t COMPREPLY < <(compgen -W "secp256r1 secp384r1 secp521r1" -- "$cur")
            return
            ;;
        --rsa-key-size)
            mapfile -t COMPREPLY < <(compgen -W "2048 3072 4096" -- "$cur")
            return
            ;;
        --names | --reason | --warning | --critical | --country | --state | --locality | --organization | --resolver)
            return
            ;;
    esac
    case $command in
        "") options="--version" ;;
        status) options="--json --nagios --prometheus --all --dns --warning --critical --config-dir" ;;
        doctor) options="--json --dns $servers" ;;
        plan) options="--lineage --cert --key --chain --names $servers" ;;
        undo) options="--now --force --config-dir" ;;
        tlsa) options="--json $servers" ;;
        deploy) options="--force $servers" ;;
        standby) options="--remove --config-dir" ;;
        rollover) options="--now --reason --config-dir" ;;
        csr)
            options="--key-type --elliptic-curve --rsa-key-size --new-key --reuse-key --country --state --locality"
            options+=" --organization --lineage --config-dir --store"
            ;;
        install-cert) options="--cert --ca-bundle --key --lineage --dry-run --resolver --now --force $servers" ;;
        *) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--help $options" -- "$cur")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(
            compgen -W "status doctor plan undo tlsa deploy standby rollover csr install-cert" -- "$cur"
        )
    elif [[ " status doctor undo tlsa deploy standby rollover " == *" $command "* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_certbot_dovecot_lineages)" -- "$cur")
    fi
}

complete -F _certbot_dovecot certbot-dovecot
