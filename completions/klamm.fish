# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_klamm_global_optspecs
    string join \n h/help V/version
end

function __fish_klamm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_klamm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_klamm_using_subcommand
    set -l cmd (__fish_klamm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c klamm -n "__fish_klamm_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_needs_command" -s V -l version -d 'Print version'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "topics" -d 'List, describe, create, alter and delete topics'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list" -f -a "list" -d 'List topics, one a line'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
