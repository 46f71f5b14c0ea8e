import { type Gva, hex } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { StopEvent } from '../target/target.ts';
import type { Breakpoint } from './breakpoints.ts';
import type { Disassembler } from './disassembler.ts';
import type { SerialTarget } from './serialTarget.ts';

type Watched = StopEvent & { readonly kind: 'watchpoint' };

/** Longer ones are ranges rather than values: of them what has changed is told. */
const longestValue = 8;
/** As much as one instruction stores but for DC ZVA and its like. */
const longestChange = 64;
/** Longer ones are not read at each access. */
const longestRange = 4096;

/** Carries out the access that a watchpoint stopped before it was executed, alone: what it changes is known then, and
 *  conditions see it. Returns what happened besides, and a text for each of the data breakpoints. */
export async function carryOut(
  event: Watched,
  breakpoints: readonly Breakpoint[],
  target: SerialTarget,
  disassembler: Disassembler,
): Promise<{ readonly events: readonly StopEvent[]; readonly text: string }> {
  const [instruction] = await disassembler.rows(target.memory(event.vcpu), event.pc, 0, 1);
  // Where they are by now: the kernel may have moved since they were asked for.
  const ranges = breakpoints.flatMap(({ request, sites: [site] }) =>
    request.kind === 'data' && site ? [{ address: site.address, length: request.length }] : [],
  );
  const before = await Promise.all(ranges.map((range) => bytesIn(range, event, target)));
  const events = await execute(event, target);
  const isOver = events.some(({ kind }) => kind === 'exited');
  const changes: string[] = [];
  for (const [index, range] of ranges.entries()) {
    changes.push(describe(range, before[index], isOver ? undefined : await bytesIn(range, event, target)));
  }
  const accessed = changes.length > 0 ? changes.join(' and ') : hex(event.accessed);
  return { events, text: ` (\`${instruction?.text ?? '??'}\` at ${hex(event.pc)} accessed ${accessed})` };
}

/** An interruption that came before the access is not its end; whoever wanted it asks again. */
async function execute({ vcpu, pc }: Watched, target: SerialTarget): Promise<readonly StopEvent[]> {
  const { programCounter } = target.architecture;
  for (;;) {
    const events = await target.step(vcpu);
    if (events.some(({ kind }) => kind !== 'interrupted')) return events;
    if ((await target.readRegisters(vcpu, [programCounter])).get(programCounter) !== pc) return events;
  }
}

interface Range {
  readonly address: Gva;
  readonly length: number;
}

function describe({ address, length }: Range, old: Uint8Array | undefined, now: Uint8Array | undefined): string {
  const what = `${length} bytes at ${hex(address)}`;
  if (old === undefined || now === undefined) return what;
  const differs = (byte: number, offset: number): boolean => byte !== old[offset];
  const first = now.findIndex(differs);
  if (length <= longestValue) {
    return first < 0 ? `${what}, which are ${value(now)}` : `${what}, which were ${value(old)} and are ${value(now)}`;
  }
  if (first < 0) return `${what}, which are as they were`;
  const end = now.findLastIndex(differs) + 1;
  const part = `${what}, of which ${end - first} at ${hex(address + BigInt(first))}`;
  if (end - first > longestChange) return `${part} have changed`;
  const [before, after] = [old, now].map((bytes) => value(bytes.subarray(first, end)));
  return `${part} were ${before} and are ${after}`;
}

/** Little endian. */
const value = (bytes: Uint8Array): string => hex(bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n));

/** Undefined where they cannot be read. */
async function bytesIn(
  { address, length }: Range,
  { vcpu }: Watched,
  target: SerialTarget,
): Promise<Uint8Array | undefined> {
  if (length > longestRange) return undefined;
  try {
    return await target.memory(vcpu).read(address, length);
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}
