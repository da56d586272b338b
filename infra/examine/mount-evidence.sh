#!/bin/bash
# Mounts volumes that are evidence without a byte of them being written, and proves it by SHA-256. Runs as root.
#   mount-evidence mount DEVICE... --to FOLDER --record FILE
#   mount-evidence verify --record FILE
#   mount-evidence unmount --record FILE
# FILE gets one JSON object a line for all that was done, and is only added to. Ends with
#   0 done; what could not be mounted is named, and why    3 a device is refused: in use, writable, unreadable
#   1 a device is not what it was, or not read-only        4 something is in use and was not unmounted
#   2 called wrongly, or something is missing here
# Two locks: the device is set read-only, so no program opens it to write; and file systems are mounted by read-only loops,
# since the kernel only warns where a file system itself writes to such a device.
# What the evidence says (labels, names) is never a file name and never a command, and is escaped in the record.
set -u -o pipefail
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

say() { printf '%s\n' "$*"; }
die() { printf 'mount-evidence: %s\n' "$2" >&2; exit "$1"; }
usage() { die 2 "$1 (see the head of $0)"; }

escape() { # any bytes, as the inside of a JSON string
  local text=$1 out='' at one
  for ((at = 0; at < ${#text} && at < 512; at++)); do
    one=${text:at:1}
    case $one in
      [A-Za-z0-9\ ._:/,=+@\(\)-]) ;;
      *) printf -v one %d "'$one"; printf -v one '\\u%04x' $((one & 255)) ;;
    esac
    out+=$one
  done
  printf %s "$out"
}
note() { # EVENT KEY VALUE...: one line of the record
  local line
  line="{\"time\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",\"event\":\"$1\""
  shift
  while [ $# -ge 2 ]; do line+=",\"$1\":\"$(escape "$2")\""; shift 2; done
  printf '%s,"by":"%s"}\n' "$line" "$(escape "$who")" >>"$record" || die 2 "$record cannot be written"
}
# Reads the record: no value in it holds a quote.
lines() { grep -E "\"event\":\"$1\".*\"device\":\"([^\"]*,)?${2:-[^\"]*}[,\"]" "$record"; }
field() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" | awk '!seen[$0]++'; }
first() { lines device "$1" | head -n 1 | field "$2"; }

# What is on the disk now, past every cache.
hash() { dd if="$1" bs=4M iflag=direct status=none | sha256sum | cut -d ' ' -f 1; }
is_device() { blockdev --getsize64 "$1" >/dev/null 2>&1; }
is_readonly() { [ "$(blockdev --getro "$1" 2>/dev/null)" = 1 ]; }
is_mounted() { findmnt -rn -M "$1" >/dev/null 2>&1; }
serial() { escape "$(lsblk -dnro SERIAL "$1")"; }
parts() { lsblk -nrpo NAME,TYPE "$1" | awk '$2 == "part" && !seen[$1]++ { print $1 }'; }
probe() { blkid -p -o value -s "$2" "$1" 2>/dev/null | tr -d '\0'; }
users() { lsblk -nrpo NAME,TYPE,MOUNTPOINT "$1" | awk '$3 != "" || $2 !~ /^(disk|loop|part)$/ { print $1 }'; }
lock() { # sets a device and its partitions read-only, and sees that it holds
  local one
  for one in "$1" $(parts "$1"); do
    blockdev --setro "$one" 2>/dev/null
    is_readonly "$one" || return 1
  done
}
driver() { grep -qw "$1" /proc/filesystems || { modprobe -q "$1" 2>/dev/null && grep -qw "$1" /proc/filesystems; }; }
ours() { # what is in use of a device by this record
  local place
  while read -r place; do if is_mounted "$place"; then say "$place"; fi; done < <(lines mounted "$1" | field place)
  if [ -n "$(lines activated "$1")" ]; then users "$1"; fi
}

refuse() { # DEVICE REASON
  note notMounted device "$1" reason "$2"
  printf '%s: %s\n' "$1" "$2" >&2
  ended=3
}
leave() { # WHAT DEVICE KIND REASON
  note notMounted what "$1" device "$2" filesystem "$3" reason "$4"
  say "$1: not mounted: $3: $4"
}

# lvm sees only the volumes of the case, writes and keeps no metadata, and activates for reading alone.
volumes() { # COMMAND GROUP ARGUMENT...
  local command=$1 only="read_only_volume_list=[\"$2\"]"
  shift 2
  lvm "$command" --devices "$members" --nohints --config "global{metadata_read_only=1 use_lvmpolld=0} backup{backup=0 archive=0} activation{monitoring=0 $only}" "$@" 9>&- 2>/dev/null
}
activate() { # the volume groups on $members
  local found group missing minor name why
  found=$(volumes vgs - --noheadings -o vg_missing_pv_count,vg_name)
  [ -n "$found" ] || leave "$members" "$disks" LVM 'no lvm2 here, or no volume group that is whole, or two alike'
  while read -r missing group; do
    why=
    if ! [[ $group =~ ^[A-Za-z0-9_+][A-Za-z0-9_+.-]*$ ]]; then
      why='a volume group with a name that lvm does not allow'
    elif [ "$(awk -v name="$group" '$2 == name' <<<"$found" | wc -l)" != 1 ] || [ -e "/dev/$group" ]; then
      why="volume group $group is there twice, or active: use another instance for one"
    elif [ "$missing" != 0 ]; then
      why="volume group $group lacks $missing of its disks: name all in one call"
    fi
    if [ -n "$why" ]; then
      leave "$members" "$disks" LVM "$why"
      continue
    fi
    note activated device "$disks" members "$members" group "$group"
    volumes vgchange "$group" -ay "$group" >/dev/null
    while read -r minor name; do
      if is_device "/dev/dm-$minor"; then
        show "/dev/dm-$minor" "$disks" "$name"
      else
        leave "$name" "$disks" LVM 'was not activated: only plain logical volumes can be without writing'
      fi
    done < <(volumes lvs "$group" --noheadings -o lv_kernel_minor,lv_full_name "$group")
  done <<<"$found"
}

show() { # WHAT DEVICE NAME: mounts one file system, or says why not
  local what=$1 device=$2 kind options=ro,nodev,nosuid,noexec place loop='' said why=''
  kind=$(probe "$what" TYPE)
  case $kind in
    ext3 | ext4) options+=,noload ;;
    xfs) options+=,norecovery,nouuid ;;
    btrfs)
      options+=,rescue=nologreplay
      said=$(probe "$what" UUID)
      # The kernel tells them apart by UUID, and shows the wrong one of two.
      if ! [[ $said =~ ^[0-9a-f-]{36}$ ]] || [ -e "/sys/fs/btrfs/$said" ]; then why='one of its UUID is mounted: use another instance'; fi ;;
    ntfs) kind=ntfs3 ;;
    ext2 | vfat | exfat | iso9660 | squashfs | erofs) ;;
    LVM2_member) members+=${members:+,}$what disks+=${disks:+,}$device; return ;;
    swap) why='swap space: strings reads it' ;;
    crypto_LUKS | BitLocker) why='encrypted: cryptsetup open --readonly (--type bitlk)' ;;
    linux_raid_member) why='part of a RAID: mdadm --assemble --readonly' ;;
    zfs_member) why='zpool import -o readonly=on -N, on an image with ZFS' ;;
    '') kind=unknown why='nothing known, or several things at once (xxd, photorec)' ;;
    *) why='no way is known to mount it without writing' ;;
  esac
  place=$folder/${what##*/}
  if [ -n "$why" ]; then
    :
  elif ! driver "$kind"; then
    why='the kernel has no driver for it: use an image that has'
  elif ! is_readonly "$what"; then
    why='it is not read-only'
  elif is_mounted "$place" || ! mkdir -p "$place"; then
    why="$place is taken: name another folder"
  else
    loop=$(losetup --find --show --read-only "$what" 2>/dev/null)
    if [ -z "$loop" ] || ! is_readonly "$loop"; then
      why='there is no read-only loop device (modprobe loop)'
    elif ! said=$(mount -t "$kind" -o "$options" "$loop" "$place" 2>&1 9>&-); then
      why="the kernel refuses it: ${said##*: }"
    fi
    # What is mounted keeps its loop device until it is unmounted.
    [ -z "$loop" ] || losetup -d "$loop"
  fi
  if [ -n "$why" ]; then
    rmdir "$place" 2>/dev/null
    leave "$what" "$device" "$kind" "$why"
  else
    note mounted what "$what" device "$device" filesystem "$kind" options "$options" place "$place" name "$3" label "$(probe "$what" LABEL)"
    say "$what: mounted at $place: $kind, $options"
  fi
}

prepare() { # one device: locks it, hashes it, shows what is on it
  local device found part
  device=$(readlink -f -- "$1")
  if ! [[ $device =~ ^/dev/[A-Za-z0-9_-]+$ && $(lsblk -dnro TYPE "$device") =~ ^(disk|loop)$ ]]; then
    refuse "$1" 'is no whole disk here'
    return
  fi
  found=$(ours "$device")
  if [ -n "$found" ] && is_readonly "$device"; then
    say "$device: mounted already: ${found//$'\n'/, }"
    return
  fi
  found=$(users "$device")
  if [ -n "$found" ]; then refuse "$device" "is in use here (${found//$'\n'/, }): end that first"; return; fi
  if ! lock "$device"; then refuse "$device" 'stays writable after blockdev --setro, so it is not read: attach it anew'; return; fi
  if [ -n "$(probe "$device" PTTYPE)" ] && [ -z "$(parts "$device")" ]; then
    partx -a "$device" 2>/dev/null || say "$device: the kernel takes no partitions of it"
    if ! lock "$device"; then refuse "$device" 'a partition stays writable'; return; fi
  fi
  say "$device: read-only, reading it for its SHA-256"
  if ! found=$(hash "$device"); then refuse "$device" 'cannot be read to its end'; return; fi
  if [ -z "$(first "$device" sha256)" ]; then
    note device device "$device" size "$(blockdev --getsize64 "$device")" serial "$(serial "$device")" sha256 "$found"
  elif [ "$(first "$device" sha256) $(first "$device" serial)" != "$found $(serial "$device")" ]; then
    note verified device "$device" sha256 "$found" result changed
    say "$device: NOT what the record has: SHA-256 $found (another volume takes another record)"
    [ "$ended" = 3 ] || ended=1
    return
  fi
  say "$device: SHA-256 $found"
  found=$(parts "$device")
  for part in ${found:-$device}; do show "$part" "$device" ''; done
}

verify() { # every device of the record once more
  local device found result one bad=''
  while read -r device; do
    found='' result=same
    if ! is_device "$device"; then
      result=missing
    elif ! found=$(hash "$device"); then
      result=unreadable
    elif [ "$found $(serial "$device")" != "$(first "$device" sha256) $(first "$device" serial)" ]; then
      result=changed
    else
      for one in "$device" $(parts "$device"); do is_readonly "$one" || result=writable; done
    fi
    note verified device "$device" sha256 "$found" result "$result"
    case $result in
      same) say "$device: same as when it was first read, and read-only: SHA-256 $found"; continue ;;
      changed) say "$device: CHANGED since it was first read: SHA-256 $found, not $(first "$device" sha256)" ;;
      writable) say "$device: same as when it was first read, but WRITABLE: unmount, and mount it again" ;;
      *) say "$device: $result" ;;
    esac
    bad=yes
  done < <(lines device | field device)
  [ -z "$bad" ]
}

unmount() {
  local place held='' line
  while read -r place; do
    is_mounted "$place" || continue
    if umount "$place"; then
      rmdir "$place"
      note unmounted place "$place"
      say "$place: unmounted"
    else
      held=yes
      say "$place: in use: end what reads it (fuser -vm $place), and unmount again"
    fi
  done < <(lines mounted | field place)
  while read -r line; do
    members=$(field members <<<"$line")
    volumes vgchange - -an "$(field group <<<"$line")" >/dev/null || { held=yes; say "$members: its logical volumes are in use"; }
  done < <(lines activated)
  verify || return 1
  [ -z "$held" ] || return 4
}

[ $# -ge 1 ] || usage 'nothing to do'
task=$1 record='' folder='' given=() members='' disks='' ended=0 who=${SUDO_USER:-$(id -un)}
shift
while [ $# -gt 0 ]; do
  case $1 in
    --to) folder=${2-}; shift ;;
    --record) record=${2-}; shift ;;
    -*) usage "$1 is unknown" ;;
    *) given+=("$1") ;;
  esac
  shift || usage 'a value is missing'
done
[ -n "$record" ] || usage '--record is missing'
case $task in
  mount)
    [ ${#given[@]} -gt 0 ] || usage 'no device is named'
    [[ $folder =~ ^(/[A-Za-z0-9._-]+)+$ ]] || usage '--to takes an absolute path of letters, digits, . _ -' ;;
  verify | unmount)
    [ "${#given[@]}$folder" = 0 ] || usage "$task takes the record alone"
    grep -q '"event":"device"' "$record" 2>/dev/null || die 2 "there is no record of a device in $record" ;;
  *) usage "$task is unknown" ;;
esac
[ "$(id -u)" = 0 ] || die 2 'must run as root'
for tool in blkid blockdev dd findmnt flock losetup lsblk mount partx sha256sum umount; do
  command -v "$tool" >/dev/null || die 2 "$tool is missing here"
done
exec 9>>"$record" || die 2 "$record cannot be written"
flock -n 9 || die 2 "another mount-evidence works on $record"
case $task in
  mount)
    for device in "${given[@]}"; do prepare "$device"; done
    [ -z "$members" ] || activate
    exit "$ended" ;;
  *) "$task" ;;
esac
