import { type Gva, hex } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { StopEvent } from '../target/target.ts';
import type { Breakpoint } from './breakpoints.ts';
import type { Disassembler } from './disassembler.ts';
import type { SerialTarget } from './serialTarget.ts';

type Watched = StopEvent & { readonly kind: 'watchpoint' };

/** Longer ones are ranges rather than values. */
const longestValue = 8;

/** Carries out the access that a watchpoint stopped before it was executed, alone: what it changes is known then, and
 *  conditions see it. Returns what happened besides, and a text for each of the data breakpoints. */
export async function carryOut(
  event: Watched,
  breakpoints: readonly Breakpoint[],
  target: SerialTarget,
  disassembler: Disassembler,
): Promise<{ readonly events: readonly StopEvent[]; readonly text: string }> {
  const [instruction] = await disassembler.rows(target.memory(event.vcpu), event.pc, 0, 1);
  const ranges = breakpoints.flatMap(({ request }) => (request.kind === 'data' ? [request] : []));
  const before = await Promise.all(ranges.map((range) => valueIn(range, event, target)));
  const events = await target.step(event.vcpu);
  const isOver = events.some(({ kind }) => kind === 'exited');
  const changes: string[] = [];
  for (const [index, range] of ranges.entries()) {
    const [old, now] = [before[index], isOver ? undefined : await valueIn(range, event, target)];
    const what = `${range.length} bytes at ${hex(range.address)}`;
    if (old === undefined || now === undefined) changes.push(what);
    else if (old === now) changes.push(`${what}, which are ${hex(now)}`);
    else changes.push(`${what}, which were ${hex(old)} and are ${hex(now)}`);
  }
  const accessed = changes.length > 0 ? changes.join(' and ') : hex(event.accessed);
  return { events, text: ` (\`${instruction?.text ?? '??'}\` at ${hex(event.pc)} accessed ${accessed})` };
}

/** Little endian; undefined where it cannot be read, or is no value. */
async function valueIn(
  { address, length }: { readonly address: Gva; readonly length: number },
  { vcpu }: Watched,
  target: SerialTarget,
): Promise<bigint | undefined> {
  if (length > longestValue) return undefined;
  try {
    const bytes = await target.memory(vcpu).read(address, length);
    return bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}
