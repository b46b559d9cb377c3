#!/bin/sh
# Makes the passwords and keys of a compose installation, once: random, a volume for each service, each file readable
# by the one user that needs it. Run by the `secrets` step as root in the image of Postgres, whose user it knows.
#
#   /secrets/<service>/
#     superuser_password service_password migrator_password board_password operator_password
#                                                         the database server, at its first start
#     <service>_migration_database_url                        the `migrate` step
#     <service>_database_url, keys of GENERATED            the service
#   /secrets/board/board_<service>_database_url               the board, which sees how far everything is and no data
#   /secrets/board/board_<service>_operator_database_url      the board, when an operator asks for something
#   /secrets/board/board_operator_token                       that operators show to the board
#
# GENERATED: pairs service/file of the keys to make, separated by spaces (user/user_privacy_master_key).
# What is there stays. An interrupted run leaves no `complete`, and is done again: nothing has used its values yet.
set -eu
umask 077

service_user=10001   # USER of the Dockerfiles
migrator_user=10002  # `user` of the migrate steps in compose.yaml

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }

# keep OWNER FILE VALUE
keep() { rm -f "$2.new"; printf '%s' "$3" > "$2.new"; chmod 400 "$2.new"; chown "$1" "$2.new"; mv -f "$2.new" "$2"; }

# url LOGIN PASSWORD DATABASE; "=" is all that needs quoting in what random makes
url() { printf 'postgresql://%s:%s@postgres-%s:5432/%s' "$1" "$(printf '%s' "$2" | sed 's/=/%3D/g')" "$service" "$3"; }

for directory in /secrets/*; do
    service=${directory##*/} database=${directory##*/}_service
    if [ "$service" = board ]; then
        chmod 755 "$directory"
        if [ ! -e "$directory/board_operator_token" ]; then keep $service_user "$directory/board_operator_token" "$(random)"; fi
        continue
    fi
    # The board's logins are apart: an installation from before there was a board gets them too (docs/containers.md).
    if [ ! -e "$directory/board_password" ]; then
        board_password=$(random)
        keep $service_user "/secrets/board/board_${service}_database_url" "$(url "${database}_board" "$board_password" "$database")"
        keep postgres "$directory/board_password" "$board_password"
    fi
    if [ ! -e "$directory/operator_password" ]; then
        operator_password=$(random)
        keep $service_user "/secrets/board/board_${service}_operator_database_url" "$(url "${database}_operator" "$operator_password" "$database")"
        keep postgres "$directory/operator_password" "$operator_password"
    fi
    if [ -e "$directory/complete" ]; then continue; fi
    cd "$directory"
    chmod 755 .
    password=$(random) migrator_password=$(random)
    keep postgres superuser_password "$(random)"
    keep postgres service_password "$password"
    keep postgres migrator_password "$migrator_password"
    keep $service_user "${service}_database_url" "$(url "$database" "$password" "$database")"
    keep $migrator_user "${service}_migration_database_url" "$(url "${database}_migrator" "$migrator_password" "$database")"
    for key in ${GENERATED:-}; do
        if [ "${key%%/*}" = "$service" ]; then keep $service_user "${key#*/}" "$(random)"; fi
    done
    : > complete
    echo "$service: made"
done
