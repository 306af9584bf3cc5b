#!/bin/sh
# s3.sh KEYS_FILE COMMAND...: run rclone's S3 server with keys from a file. Not as an argument, which every user of the
# machine can read, and not in the supervisor's settings. rclone reads a list in CSV: "access,secret" is one element.
RCLONE_AUTH_KEY=$(cat "$1")
export RCLONE_AUTH_KEY
shift
exec "$@"
