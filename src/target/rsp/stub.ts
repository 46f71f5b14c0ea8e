// What a stub can do, and the vCPUs it has: asked once, at the beginning of a connection.

import { UserError } from '../../base/errors.ts';
import { type RspConnection, refusal } from './connection.ts';
import { type MemoryRange, memoryIn } from './ram.ts';
import { type RegisterEntry, registerEntries, standardRegisters } from './registerMap.ts';
import { type RemoteRegister, readTargetDescription } from './targetDescription.ts';

/** GDB manual, E.4 "General Query Packets", qSupported. */
const offer = 'qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+;xmlRegisters=aarch64';

/** Bits of `Qqemu.sstep` (QEMU docs/system/gdb.rst, "Advanced debugging options"). */
const Sstep = { enable: 1, noInterrupts: 2, noTimers: 4 } as const;

export interface Stub {
  /** As the stub names them, in the order it lists them: a vCPU is an index here. */
  readonly threads: readonly string[];
  readonly registers: readonly RegisterEntry[];
  /** As it describes them. */
  readonly remotes: readonly RemoteRegister[];
  /** Characters in a packet that the stub takes. */
  readonly packetSize: number;
  /** Threads are told apart by their actions. Without it a stub decides for itself who runs beside one that steps. */
  readonly hasVCont: boolean;
  readonly hasBinaryWrite: boolean;
  /** Steps hold interrupts off. */
  readonly stepsWithoutInterrupts: boolean;
  /** What `Qqemu.sstep` was, if it had to be changed. */
  readonly sstepBefore: string | undefined;
  /** Where memory can be read and written by physical address; empty when it cannot. */
  readonly memory: readonly MemoryRange[];
  /** Of a process, in a stub that has several. */
  readonly process: string | undefined;
}

/** What the negotiation found to be undone when it comes to nothing. */
export interface Changes {
  sstepBefore: string | undefined;
  process: string | undefined;
}

/** Packets of a stub that does not say how large they may be. */
const usualPacketSize = 400;
const largestPacketSize = 0x10000;
const mostThreads = 4096;

/** UserError when the guest behind the stub cannot be debugged. Ends stopped. */
export async function negotiate(connection: RspConnection, changes: Changes): Promise<Stub> {
  const features = featuresIn(await connection.greet(offer));
  if (features.has('QStartNoAckMode') && (await connection.ask('QStartNoAckMode')) === 'OK') {
    connection.stopAcknowledging();
  }
  const packetSize = Number.parseInt(features.get('PacketSize') ?? '', 16);
  const remotes = await findRegisters(connection, features.has('qXfer:features:read'), packetSize);
  // A stub that let the guest run until now stops it for this.
  const status = await connection.askStop();
  if (/^[WX]/.test(status)) throw new UserError(`attach: the VM behind ${connection.where} has ended already.`);
  const threads = await findThreads(connection);
  changes.process = /^p([0-9a-f]+)\./i.exec(threads[0] ?? '')?.[1];
  const actions = (await connection.ask('vCont?')).split(';');
  const sstep = await holdInterrupts(connection, changes);
  return {
    threads,
    registers: registerEntries(remotes),
    remotes,
    packetSize:
      Number.isFinite(packetSize) && packetSize > 0 ? Math.min(packetSize, largestPacketSize) : usualPacketSize,
    hasVCont: actions[0] === 'vCont' && actions.includes('c') && actions.includes('s'),
    hasBinaryWrite: (await connection.ask('X0,0:')) === 'OK',
    ...sstep,
    memory: await findMemory(connection),
    process: changes.process,
  };
}

/** `name+`, `name-`, `name?` and `name=value`; those with a minus are left out. */
function featuresIn(answer: string): ReadonlyMap<string, string> {
  const features = new Map<string, string>();
  for (const each of answer.split(';')) {
    const [, name, value] = /^([^=]+?)(?:[+?]|=(.*))$/s.exec(each) ?? [];
    if (name !== undefined) features.set(name, value ?? '');
  }
  return features;
}

async function findRegisters(
  connection: RspConnection,
  isDescribed: boolean,
  packetSize: number,
): Promise<readonly RemoteRegister[]> {
  if (!isDescribed) {
    const length = standardRegisters.slice(0, 34).reduce((sum, { bytes }) => sum + bytes, 0);
    const general = await connection.ask('g');
    if (general.length < 2 * length) {
      throw new UserError(
        `attach: the stub at ${connection.where} neither describes its registers nor has those of an aarch64 CPU.`,
      );
    }
    return standardRegisters;
  }
  const { architecture, registers } = await readTargetDescription((annex) =>
    readObject(connection, 'features', annex, packetSize),
  );
  if (architecture !== undefined && architecture !== 'aarch64') {
    throw new UserError(
      `attach: the guest behind ${connection.where} is of the architecture ${architecture.slice(0, 40)}; this version debugs aarch64.`,
    );
  }
  const entries = registerEntries(registers);
  const missing = ['x0', 'x30', 'sp', 'pc', 'pstate'].filter((name) => !entries.some((entry) => entry.name === name));
  if (missing.length > 0) {
    throw new UserError(
      `attach: the stub at ${connection.where} has no register ${missing.join(', ')} as aarch64 has it.`,
    );
  }
  return registers;
}

/** Bytes of an object at most: QEMU describes some hundred registers in 30 KB. */
const longestObject = 1 << 20;

/** A whole object of the stub's (E.4, qXfer): `m` before a part, `l` before the last. */
async function readObject(connection: RspConnection, kind: string, annex: string, packetSize: number): Promise<string> {
  // It is the answer that must fit into a packet, with its first character; escapes may double it.
  const part = Math.max(64, Math.min(packetSize || usualPacketSize, 0x4000) - 8);
  const pieces: Uint8Array[] = [];
  for (let offset = 0; ; ) {
    const request = `qXfer:${kind}:read:${annex}:${offset.toString(16)},${part.toString(16)}`;
    const answer = await connection.askBytes(request);
    const mark = String.fromCharCode(answer[0] ?? 0);
    const isLast = mark === 'l';
    if (!isLast && (mark !== 'm' || answer.length < 2)) {
      throw refusal(
        `Cannot read ${annex.slice(0, 80)} of the target description`,
        Buffer.from(answer).toString('latin1'),
      );
    }
    pieces.push(answer.subarray(1));
    offset += answer.length - 1;
    if (offset > longestObject) throw new UserError(`The remote stub's ${annex} has no end.`);
    if (isLast) return Buffer.concat(pieces).toString('utf8');
  }
}

// qfThreadInfo, then qsThreadInfo: `m` and ids with commas between them, until `l`.
async function findThreads(connection: RspConnection): Promise<readonly string[]> {
  const threads: string[] = [];
  for (
    let answer = await connection.ask('qfThreadInfo');
    answer !== '';
    answer = await connection.ask('qsThreadInfo')
  ) {
    const found = answer.startsWith('m') ? answer.slice(1).split(',').filter(isThread) : [];
    if (found.length === 0 || threads.length > mostThreads) break;
    for (const thread of found) threads.push(thread);
  }
  // A stub without threads has one vCPU, which `0`, any thread, names.
  return threads.length > 0 ? [...new Set(threads)] : ['0'];
}

const isThread = (text: string): boolean => /^(p[0-9a-f]{1,16}\.)?[0-9a-f]{1,16}$/i.test(text);

/** `p01.02` and `p1.2` are one thread. */
export const threadKey = (thread: string): string => thread.toLowerCase().replace(/(^p?|\.)0+(?=[0-9a-f])/g, '$1');

async function holdInterrupts(
  connection: RspConnection,
  changes: Changes,
): Promise<Pick<Stub, 'stepsWithoutInterrupts' | 'sstepBefore'>> {
  const bits = await connection.ask('qqemu.sstepbits');
  const known = new Map(
    bits.split(',').map((each) => {
      const [name = '', bit = ''] = each.split('=');
      return [name, Number.parseInt(bit, 16)];
    }),
  );
  if (known.get('NOIRQ') !== Sstep.noInterrupts) return { stepsWithoutInterrupts: false, sstepBefore: undefined };
  const timers = known.get('NOTIMER') === Sstep.noTimers ? Sstep.noTimers : 0;
  const wanted = Sstep.enable | Sstep.noInterrupts | timers;
  const before = await connection.ask('qqemu.sstep');
  if (Number(before) === wanted) return { stepsWithoutInterrupts: true, sstepBefore: undefined };
  changes.sstepBefore = before.replace(/^0x/, '');
  const isSet = await setSstep(connection, wanted.toString(16));
  if (!isSet) changes.sstepBefore = undefined;
  return { stepsWithoutInterrupts: isSet, sstepBefore: changes.sstepBefore };
}

/** Releases of QEMU differ in the character in front of the value. */
export async function setSstep(connection: RspConnection, value: string): Promise<boolean> {
  for (const mark of [':', '=']) if ((await connection.ask(`Qqemu.sstep${mark}${value}`)) === 'OK') return true;
  return false;
}

async function findMemory(connection: RspConnection): Promise<readonly MemoryRange[]> {
  if (!/^[01]$/.test(await connection.ask('qqemu.PhyMemMode'))) return [];
  return memoryIn((await connection.monitor('info mtree -f')) ?? '');
}
