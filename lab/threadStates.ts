/** Shell program that prints what each thread of the VMMs and of the Node processes in the lab is doing: for a test that
 *  waits in vain. */
export const threadStates = `
for process in /proc/[0-9]*; do
  name=$(cat $process/comm 2>/dev/null)
  case "$name" in lkvm*|qemu-system*|node*) ;; *) continue ;; esac
  echo "$\{process#/proc/} $(tr '\\0' ' ' <$process/cmdline | cut -c1-120)"
  for thread in $process/task/*; do
    echo "  $\{thread##*/} $(cat $thread/comm): $(grep -E '^(State|TracerPid|SigPnd|SigBlk|voluntary)' $thread/status | tr '\\n\\t' '  ')"
    case "$(cat $thread/wchan)" in futex_*|do_epoll_wait) continue ;; esac
    echo "    system call $(cat $thread/syscall)"
    sed 's/^/    /' $thread/stack
  done
done 2>/dev/null
dmesg | tail -n 20
`;
