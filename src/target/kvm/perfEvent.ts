// Perf events on tracepoints that raise SIGTRAP in the thread that met them (perf_event_attr.sigtrap, Linux 5.13): the
// thread stops for its tracer on the way back to user space, and only for what the filter lets through.
import { closeSync, readFileSync } from 'node:fs';
import { messageOf, UserError } from '../../base/errors.ts';
import { NativeBuffer, ownIoctl, rawSyscall } from './ffi.ts';

const tracefs = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'] as const;

/** Id of a tracepoint, by which perf names it; `name` is SYSTEM/EVENT. UserError when tracefs cannot be read. */
export function tracepointId(name: string): bigint {
  const failures: string[] = [];
  for (const root of tracefs) {
    try {
      return BigInt(readFileSync(`${root}/events/${name}/id`, 'utf8').trim());
    } catch (thrown) {
      failures.push(messageOf(thrown));
    }
  }
  throw new UserError(
    `The tracepoint ${name.replace('/', ':')} cannot be read (${failures.join('; ')}); mount tracefs`,
  );
}

/** struct perf_event_attr (include/uapi/linux/perf_event.h): type 0, size 4, config 8, sample_period 16, flags 40. */
const attribute = {
  size: 128,
  PERF_TYPE_TRACEPOINT: 2,
  disabled: 1n << 0n,
  remove_on_exec: 1n << 36n,
  sigtrap: 1n << 37n,
} as const;
const PERF_FLAG_FD_CLOEXEC = 8;
const PERF_EVENT_IOC_ENABLE = 0x2400n;
const PERF_EVENT_IOC_SET_FILTER = 0x40082406n;

/** Opens the event for one thread (0: this one) with a tracepoint filter expression; returns its descriptor. */
export function openTrapEvent(tid: number, tracepoint: bigint, filter: string): number {
  const attributes = new NativeBuffer(attribute.size);
  attributes.view.setUint32(0, attribute.PERF_TYPE_TRACEPOINT, true);
  attributes.view.setUint32(4, attribute.size, true);
  attributes.view.setBigUint64(8, tracepoint, true);
  attributes.view.setBigUint64(16, 1n, true);
  attributes.view.setBigUint64(40, attribute.disabled | attribute.remove_on_exec | attribute.sigtrap, true);
  const fd = rawSyscall('perf_event_open', attributes.address, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
  try {
    const text = new TextEncoder().encode(`${filter}\0`);
    const expression = new NativeBuffer(text.length);
    expression.bytes.set(text);
    ownIoctl('PERF_EVENT_IOC_SET_FILTER', fd, PERF_EVENT_IOC_SET_FILTER, expression.address);
    ownIoctl('PERF_EVENT_IOC_ENABLE', fd, PERF_EVENT_IOC_ENABLE, 0);
  } catch (thrown) {
    closeSync(fd);
    throw thrown;
  }
  return fd;
}
