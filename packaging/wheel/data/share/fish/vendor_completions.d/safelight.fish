# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_safelight_global_optspecs
    string join \n h/help V/version
end

function __fish_safelight_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_safelight_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_safelight_using_subcommand
    set -l cmd (__fish_safelight_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c safelight -n "__fish_safelight_needs_command" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_needs_command" -s V -l version -d 'Print version'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "daemon" -d 'Watch run directories and turn new dumps into images, until SIGTERM or Ctrl-C'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "ingest" -d 'Read run directories once'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "backfill" -d 'Deliver the images of archived run directories to an object store'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "ls" -d 'List items: images, held images, and rejected lines and dumps'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "show" -d 'Show the items of a key and step: in words, as JSON, or as pictures in the terminal'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "gallery" -d 'Look at the images in a browser: prints the address of the daemon\'s gallery, or serves one until Ctrl-C'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "status" -d 'Show the daemon, its backlog, the runs and the targets'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "health" -d 'Check the daemon: exit code 0 if it is healthy, else 1 and the reasons'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "reload" -d 'Reload the daemon\'s configuration: exit code 0 when it is in force, 1 if it is invalid'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "validate" -d 'Check a configuration file: exit code 0 if it is valid, 78 if not'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "service" -d 'Run the daemon as a service of systemd'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "prune" -d 'Show what the rules in `[retention]` would remove; remove it with --apply'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "sync" -d 'Deliver images to the configured targets'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "retry" -d 'Retry the images that targets failed with or rejected'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "release" -d 'Make the held images that the limits now allow'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "verify" -d 'Compare each media file with its digest; with --repair, make damaged ones again'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "wandb-merge" -d 'Copy a training\'s W&B offline run and add its images to the copy'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "reindex" -d 'Rebuild the index from the journals'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "completions" -d 'Print the completions of a shell'
complete -c safelight -n "__fish_safelight_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c safelight -n "__fish_safelight_using_subcommand daemon" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand daemon" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand daemon" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand daemon" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand ingest" -l key -d 'Also take the arrays and pictures that lie directly in a directory, and no run directories below it. `120.npy` is step 120 of this key, `pred_120.npy` step 120 of NAME/pred, and `cat.png` step 0 of NAME/cat' -r
complete -c safelight -n "__fish_safelight_using_subcommand ingest" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand ingest" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand ingest" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand ingest" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l target -d 'The target that gets the images; its kind must be `object_store`' -r
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l box -d 'The box that the runs are filed under [default: `box` of the target, else archive]' -r
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l run -d 'The run\'s id, if its safelight.json has none [default: the last part of the origin, else the directory\'s path as `ingest` takes it]' -r
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l origin -d 'Where the run comes from, if the directory is a temporary copy: recorded instead of the directory' -r
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l scratch -d 'Where scratch stores are kept until they are delivered, on a local disk [default: $TMPDIR/safelight-backfill-UID]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l fingerprint -d 'Digest of the run\'s files, to be compared with that of an earlier backfill [default: of names, sizes and times]' -r
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l config -d 'The configuration file that has the target [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l skip-done -d 'Leave out the runs that were done before'
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l dry-run -d 'Only tell which runs were done before'
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -l json -d 'Print JSON Lines with one run a line'
complete -c safelight -n "__fish_safelight_using_subcommand backfill" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l step -d 'Only these steps: 120, 100..200 (inclusive), 100.. or ..200' -r
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l state -d 'Only this state' -r -f -a "image\t''
held\t''
rejected\t''
waiting\t''"
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l where -d 'Only items with this property, such as \'nan>0\', \'std<0.01\', mode=RGB or caption~car; may be repeated, all must hold' -r
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l from -d 'Look at what boxes have delivered to an object store, instead of at the store: its URL, or the name of a target of the configuration. A run is named BOX/RUN then' -r
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand ls" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand ls" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand show" -l as -d 'Print JSON: of the items as in the store, or as W&B would record them' -r -f -a "record\t'The items as in the store'
logged\t'The value that wandb.log would record'
artifact\t'The JSON of each image in a W&B artifact'
config\t'The class labels that logging the images would add to the run\'s config'"
complete -c safelight -n "__fish_safelight_using_subcommand show" -l picture -d 'Show the images in the terminal, each above a line with its caption. Without a protocol, the terminal is asked which one it knows, and standard output must be a terminal' -r -f -a "auto\t'The best one that the terminal knows; in tmux and GNU screen, blocks'
kitty\t'kitty\'s graphics protocol, also of Ghostty, Konsole and WezTerm'
iterm2\t'Inline images of iTerm2, also of WezTerm and mintty'
sixel\t'Sixel graphics: foot, mlterm, Windows Terminal, `xterm -ti vt340`'
blocks\t'Half blocks in 24-bit colours, for any terminal'"
complete -c safelight -n "__fish_safelight_using_subcommand show" -l from -d 'Look at what boxes have delivered to an object store, instead of at the store: its URL, or the name of a target of the configuration. A run is named BOX/RUN then' -r
complete -c safelight -n "__fish_safelight_using_subcommand show" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand show" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand show" -l overlays -d 'Draw boxes and masks on the pictures, in the colours of their classes'
complete -c safelight -n "__fish_safelight_using_subcommand show" -l follow -d 'Show this step and all later ones, then each new one as the daemon stores it. Ends at Ctrl-C, or when the run is finished. Needs a daemon'
complete -c safelight -n "__fish_safelight_using_subcommand show" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -l listen -d 'Where to serve without a daemon: 127.0.0.1:PORT (port 0 is any free one), or unix:PATH' -r
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -l from -d 'Look at what boxes have delivered to an object store, instead of at the store: its URL, or the name of a target of the configuration. A run is named BOX/RUN then' -r
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand gallery" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand status" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand status" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand status" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand status" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand health" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand health" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand health" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand health" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand reload" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand reload" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand reload" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand reload" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand validate" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand validate" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand validate" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand validate" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand service; and not __fish_seen_subcommand_from install uninstall status help" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand service; and not __fish_seen_subcommand_from install uninstall status help" -f -a "install" -d 'Write unit and configuration, and start the service; run it again to watch further directories'
complete -c safelight -n "__fish_safelight_using_subcommand service; and not __fish_seen_subcommand_from install uninstall status help" -f -a "uninstall" -d 'Stop the service and remove its unit; the configuration and the store stay'
complete -c safelight -n "__fish_safelight_using_subcommand service; and not __fish_seen_subcommand_from install uninstall status help" -f -a "status" -d 'Show the service: exit code 0 if it runs and is healthy, else 1'
complete -c safelight -n "__fish_safelight_using_subcommand service; and not __fish_seen_subcommand_from install uninstall status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from install" -l user -d 'A service of your own, without root, instead of one of the machine'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from install" -l json -d 'Print JSON'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from uninstall" -l user -d 'A service of your own, without root, instead of one of the machine'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from uninstall" -l json -d 'Print JSON'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from uninstall" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from status" -l user -d 'A service of your own, without root, instead of one of the machine'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "install" -d 'Write unit and configuration, and start the service; run it again to watch further directories'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "uninstall" -d 'Stop the service and remove its unit; the configuration and the store stay'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show the service: exit code 0 if it runs and is healthy, else 1'
complete -c safelight -n "__fish_safelight_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c safelight -n "__fish_safelight_using_subcommand prune" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand prune" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand prune" -l apply -d 'Remove it'
complete -c safelight -n "__fish_safelight_using_subcommand prune" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand prune" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand sync" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand sync" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand sync" -l once -d 'Deliver the backlog and exit, for cron; without it, continue with new images'
complete -c safelight -n "__fish_safelight_using_subcommand sync" -l dry-run -d 'Show what would be delivered'
complete -c safelight -n "__fish_safelight_using_subcommand sync" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand sync" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand retry" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand retry" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand retry" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand retry" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand release" -l step -d 'Only these steps: 120, 100..200 (inclusive), 100.. or ..200' -r
complete -c safelight -n "__fish_safelight_using_subcommand release" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand release" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand release" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand release" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand verify" -l bytes-per-s -d 'Bytes of media files to read from disk each second, at most; 0 for no limit [default: the setting `work.read_bytes_per_s_max`]' -r
complete -c safelight -n "__fish_safelight_using_subcommand verify" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand verify" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand verify" -l repair -d 'Make missing and damaged files again from their dumps'
complete -c safelight -n "__fish_safelight_using_subcommand verify" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand verify" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand wandb-merge" -l run -d 'The run in the store [default: the id of the offline run]' -r
complete -c safelight -n "__fish_safelight_using_subcommand wandb-merge" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand wandb-merge" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand wandb-merge" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand wandb-merge" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand reindex" -l config -d 'The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and /etc/safelight/safelight.toml]' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand reindex" -l store -d 'The store\'s directory; overrides the configuration' -r -F
complete -c safelight -n "__fish_safelight_using_subcommand reindex" -l json -d 'Print JSON: one object, or JSON Lines with one item a line'
complete -c safelight -n "__fish_safelight_using_subcommand reindex" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand completions" -s h -l help -d 'Print help'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "daemon" -d 'Watch run directories and turn new dumps into images, until SIGTERM or Ctrl-C'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "ingest" -d 'Read run directories once'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "backfill" -d 'Deliver the images of archived run directories to an object store'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "ls" -d 'List items: images, held images, and rejected lines and dumps'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "show" -d 'Show the items of a key and step: in words, as JSON, or as pictures in the terminal'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "gallery" -d 'Look at the images in a browser: prints the address of the daemon\'s gallery, or serves one until Ctrl-C'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "status" -d 'Show the daemon, its backlog, the runs and the targets'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "health" -d 'Check the daemon: exit code 0 if it is healthy, else 1 and the reasons'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "reload" -d 'Reload the daemon\'s configuration: exit code 0 when it is in force, 1 if it is invalid'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "validate" -d 'Check a configuration file: exit code 0 if it is valid, 78 if not'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "service" -d 'Run the daemon as a service of systemd'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "prune" -d 'Show what the rules in `[retention]` would remove; remove it with --apply'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "sync" -d 'Deliver images to the configured targets'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "retry" -d 'Retry the images that targets failed with or rejected'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "release" -d 'Make the held images that the limits now allow'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "verify" -d 'Compare each media file with its digest; with --repair, make damaged ones again'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "wandb-merge" -d 'Copy a training\'s W&B offline run and add its images to the copy'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "reindex" -d 'Rebuild the index from the journals'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "completions" -d 'Print the completions of a shell'
complete -c safelight -n "__fish_safelight_using_subcommand help; and not __fish_seen_subcommand_from daemon ingest backfill ls show gallery status health reload validate service prune sync retry release verify wandb-merge reindex completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c safelight -n "__fish_safelight_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "install" -d 'Write unit and configuration, and start the service; run it again to watch further directories'
complete -c safelight -n "__fish_safelight_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "uninstall" -d 'Stop the service and remove its unit; the configuration and the store stay'
complete -c safelight -n "__fish_safelight_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "status" -d 'Show the service: exit code 0 if it runs and is healthy, else 1'
