# A machine's systemd in namespaces of its own, with no units but those that are needed here: $1 is a directory for what it changes,
# $2 the name of its control group, $3 a file for what services say. It tells NOTIFY_SOCKET when it is there.
set -e

mount -t tmpfs tmpfs "$1"
cp -a /etc "$1/etc"
mkdir "$1/units" "$1/nothing"
for unit in sysinit basic multi-user network-online shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' > "$1/units/$unit.target"
done
rm -rf "$1/etc/systemd/system" "$1/etc/barque"
mkdir "$1/etc/systemd/system"
# Nobody keeps a journal here.
for unit in barque-server barque-agent; do
    mkdir "$1/etc/systemd/system/$unit.service.d"
    printf '[Service]\nStandardOutput=append:%s\nStandardError=append:%s\n' "$3" "$3" > "$1/etc/systemd/system/$unit.service.d/log.conf"
done
mount --bind "$1/etc" /etc
library=$(dirname "$(readlink -f /lib/systemd/systemd)")
mount --bind "$1/units" "$library/system"
# They would make units of old scripts, and of disks.
mount --bind "$1/nothing" "$library/system-generators"
mount -t tmpfs tmpfs /run

# Control groups below its own one are all that it sees.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir -p "/sys/fs/cgroup/$2/systemd"
    echo $$ > "/sys/fs/cgroup/$2/systemd/cgroup.procs"
    groups="mount -t cgroup2 cgroup2 /sys/fs/cgroup"
else
    for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do
        own=$(dirname "$hierarchy")/$2/systemd
        # Some want to be set up first, and are not needed.
        { mkdir -p "$own" && echo $$ > "$own/cgroup.procs"; } 2> /dev/null || true
    done
    groups="mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified &&
        mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
fi
exec unshare --cgroup --mount --propagation private -- sh -c "$groups && exec /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=console --show-status=no"
