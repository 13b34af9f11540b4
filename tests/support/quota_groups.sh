# SPDX-License-Identifier: Apache-2.0
# To be sourced: control groups with CPU quotas, for ranks that are slow. Needs root and the cpu controller (version 1 or 2).
#   quota_groups CORES...      makes a group for each rank and fills the array `groups` with their folders; periods are short, 2 ms or little more
#   remove_quota_groups        removes those that are empty
groups=()

quota_groups() {
  local cores group quota period second="" top=/sys/fs/cgroup/cpu
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then second=yes top=/sys/fs/cgroup; fi
  for cores in "$@"; do
    group=$top/tugline-$$-${#groups[@]}
    mkdir "$group" || { echo "cannot make the control group $group: CPU quotas need root and the cpu controller" >&2; return 1; }
    groups+=("$group")
    # The kernel gives no less than 1000 us.
    read -r quota period < <(awk -v cores="$cores" 'BEGIN { period = 1000 / cores; if (period < 2000) period = 2000; printf "%d %d\n", cores * period + 0.5, period }')
    if [ -n "$second" ]; then
      echo "$quota $period" >"$group/cpu.max"
    else
      echo "$period" >"$group/cpu.cfs_period_us"
      echo "$quota" >"$group/cpu.cfs_quota_us"
    fi
  done
}

remove_quota_groups() {
  [ ${#groups[@]} = 0 ] || rmdir "${groups[@]}" 2>/dev/null || true
  groups=()
}
