#!/bin/busybox sh
# The first program of a machine that runs tests. What begins with `@@` is for `cargo xtask vm`.
# The shell prefers its own applets: `/sbin/modprobe` and `/sbin/ip` are the real ones.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /run /mnt
/bin/busybox --install -s /mnt 2>/dev/null
export PATH=$PATH:/mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf
/sbin/modprobe -qa $(cat /etc/modules)
read -r uptime rest </proc/uptime
echo "@@ up $uptime"
/sbin/ip link set lo up
. /etc/known
# Everything takes ten to forty times as long here, and is done a few times where a test does it often.
export BITMESH_PATIENCE=20
# The list alone says how often.
export BITMESH_SOAK=1
number=0
while read -r file name BITMESH_TIMES; do
    export BITMESH_TIMES
    read -r uptime rest </proc/uptime
    echo "@@ begin $number $uptime"
    /t/deps/"$file"-* --exact "$name" --test-threads=1 --show-output 2>&1 </dev/null
    status=$?
    read -r uptime rest </proc/uptime
    echo "@@ end $number $uptime $status"
    number=$((number + 1))
done </etc/tests
poweroff -f
