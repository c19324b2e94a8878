#!/usr/bin/env bash
# room.sh FOLDER GB: exit code 1 where the disk of the folder has less room than an installation takes; a word where the memory is short.
set -euo pipefail
free=$(df -Pk "$1" | awk 'NR == 2 {print int($4 / 1000000)}')
if [ "$free" -lt "$2" ]; then
    echo "$1: $free GB are free, and the installation takes about $2 GB. Make room, or clone METEOR to a larger disk." >&2
    exit 1
fi
memory=$(awk '/^MemAvailable/ {print int($2 / 1000000)}' /proc/meminfo)
if [ "$memory" -lt 14 ]; then
    echo "$memory GB of memory are free; both models of the demo and training take 14 GB. End other programs, or name a" \
        "teacher elsewhere with METEOR_TEACHER_BASE_URL (then 8 GB are enough for a small student)." >&2
fi
