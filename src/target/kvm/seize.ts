// Begins to trace a thread (PTRACE_SEIZE), or says why that is not allowed.
import { readFileSync } from 'node:fs';
import { UserError } from '../../base/errors.ts';
import { ptrace, SystemError } from './ffi.ts';
import { processName, statusField, threads } from './procfs.ts';

const yamaScope = (): string => {
  try {
    return readFileSync('/proc/sys/kernel/yama/ptrace_scope', 'utf8').trim();
  } catch {
    return 'absent'; // no Yama in this kernel
  }
};

function explainRefusal(pid: number, cause: SystemError): UserError {
  const who = `${processName(pid)} (pid ${pid})`;
  const tracer = threads(pid)
    .map((tid) => statusField(tid, 'TracerPid'))
    .find((other) => other !== undefined && other !== '0');
  if (tracer !== undefined) {
    return new UserError(`${who} is traced by process ${tracer} already; end that debugger or strace first.`, {
      cause,
    });
  }
  const scope = yamaScope();
  if (scope !== '0' && scope !== 'absent') {
    return new UserError(
      `Not allowed to trace ${who}: Yama restricts ptrace (ptrace_scope is ${scope}). Run the adapter with CAP_SYS_PTRACE, or "sysctl kernel.yama.ptrace_scope=0".`,
      { cause },
    );
  }
  return new UserError(
    `Not allowed to trace ${who}: run the adapter as the user that owns it, or with CAP_SYS_PTRACE.`,
    {
      cause,
    },
  );
}

/** `options`: PtraceOption. UserError with the remedy when the kernel refuses. */
export function seize(pid: number, tid: number, options: number): void {
  try {
    ptrace('SEIZE', tid, 0, options);
  } catch (thrown) {
    if (thrown instanceof SystemError && thrown.code === 'EPERM') throw explainRefusal(pid, thrown);
    throw thrown;
  }
}
