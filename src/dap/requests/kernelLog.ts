import { MemoryFault, messageOf, TargetError, UserError } from '../../base/errors.ts';
import type { VirtualMemory } from '../../base/memory.ts';
import { KernelLog, type LogRecord, logText } from '../../linux/kernelLog.ts';
import { debuggerOf, type Handler, stopped } from '../context.ts';
import { whileShown } from '../progress.ts';

export const kernelLog: Handler = async (_args, context) => {
  const current = stopped(context);
  const { symbols } = debuggerOf(context);
  if (symbols === undefined) throw new UserError('There are no symbols; name the vmlinux in "symbols".');
  const log = KernelLog.of(symbols.source);
  if (log === undefined) {
    throw new UserError(
      `${symbols.source.path} does not describe a log that can be read: that takes debug information of Linux 5.10 or later.`,
    );
  }
  const memory = current.memory(current.focus);
  const read: VirtualMemory['read'] = (address, length) => {
    if (context.signal.aborted) throw new UserError('cancelled');
    return memory.read(address, length);
  };
  const { records, omitted } = await whileShown(context, "Reading the kernel's log", () =>
    log.read(symbols.bias, { ...memory, read }).catch(explain),
  );
  return { records: records.map(recordBody), text: logText(records), ...(omitted === 0 ? {} : { omitted }) };
};

function explain(error: unknown): never {
  if (!(error instanceof MemoryFault)) throw error;
  throw new TargetError(`The kernel's log cannot be read: ${messageOf(error)}`, { cause: error });
}

const recordBody = ({ seq, time, subsystem, device, ...rest }: LogRecord): object => ({
  seq: Number(seq),
  time: Number(time) / 1e9,
  ...rest,
  ...(subsystem === undefined ? {} : { subsystem }),
  ...(device === undefined ? {} : { device }),
});
