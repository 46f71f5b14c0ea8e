/** The same guest, debugged and not: guests/checksum.s comes to the same sums whether it runs freely, is stepped from its
 *  first instruction to its last, or is stopped here and there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Gva } from '../../../src/base/address.ts';
import { Bare, gic } from './bareVm.ts';
import { check } from './report.ts';
import { missing, type Vmm, vmms } from './vms.ts';

const image = readFileSync('/job/guests/checksum.Image');
const offsets = JSON.parse(readFileSync('/job/guests/checksum.json', 'utf8')) as Record<string, string>;
const place = (name: string): bigint => BigInt(offsets[name] ?? assert.fail(`no symbol ${name}`));

/** A byte of a device that the VMM emulates, which keeps what is written: the scratch register of kvmtool's 8250, the
 *  integer baud rate of QEMU's PL011. */
const device = { kvmtool: 0x100_0007n, qemu: 0x900_0024n } as const;

const interruptCount = 31;

interface Outcome {
  /** By the numbers of the guest's classes; 0 is of its exceptions. */
  readonly sums: readonly bigint[];
  readonly registers: readonly bigint[];
  readonly interrupts: bigint;
}

async function outcome(bare: Bare): Promise<Outcome> {
  const words = await bare.words(bare.at(place('sums')), 64);
  return {
    sums: words.filter((_, index) => index !== interruptCount),
    registers: await bare.words(bare.at(place('registers')), 44),
    interrupts: words[interruptCount] ?? 0n,
  };
}

async function begin(vmm: Vmm, rounds: number): Promise<Bare> {
  const bare = await Bare.launch(vmm, image, { traps: false });
  const [x1, x2] = gic[vmm](1);
  await bare.go(place('checksum'), { x0: BigInt(rounds), x1, x2, x3: device[vmm] });
  return bare;
}

async function freely(vmm: Vmm, rounds: number): Promise<Outcome> {
  const bare = await begin(vmm, rounds);
  await bare.idles(place('idle'));
  const result = await outcome(bare);
  await bare.target.kill();
  return result;
}

const hexadecimal = (values: readonly bigint[]): readonly string[] =>
  values.map((value, index) => `${index}: ${value.toString(16)}`);

function assertSame(debugged: Outcome, free: Outcome): void {
  assert.deepEqual(hexadecimal(debugged.sums), hexadecimal(free.sums), 'sums');
  assert.deepEqual(hexadecimal(debugged.registers), hexadecimal(free.registers), 'registers');
}

/** Offsets of the interrupts' vectors: IRQ, FIQ and SError from each source. */
const interruptVectors = [0x080n, 0x100n, 0x180n, 0x280n, 0x300n, 0x380n, 0x480n, 0x500n, 0x580n];

/** `reach`: bytes of straight code to be run as one step. */
async function stepped(vmm: Vmm, rounds: number, reach: bigint): Promise<number> {
  const free = await freely(vmm, rounds);
  assert.ok(free.interrupts > 0n, `the timer has interrupted it ${free.interrupts} times`);
  const bare = await begin(vmm, rounds);
  const { target } = bare;
  const vectors = interruptVectors.map((offset) => bare.at(place('vectors') + offset));
  const end = bare.at(place('idle'));
  let steps = 0;
  let last = bare.at(place('checksum'));
  const began = performance.now();
  while (last !== end) {
    const [event, ...more] = await target.step(0, Gva(last + reach));
    assert.equal(more.length, 0);
    if (event?.kind !== 'step') assert.fail(`after ${last.toString(16)}: ${event?.kind}`);
    assert.ok(!vectors.includes(event.pc), `the step of ${last.toString(16)} was an interrupt`);
    last = event.pc;
    steps += 1;
  }
  const features = free.registers[24] ?? 0n;
  assert.equal(features & wantedFeatures, wantedFeatures, 'the CPU has what is to be tried');
  console.log(
    `${vmm}: features ${features.toString(2)}, ${steps} steps, ${Math.round((1000 * steps) / (performance.now() - began))} in a second`,
  );
  assertSame(await outcome(bare), free);
  return steps;
}

async function everyInstruction(vmm: Vmm, rounds: number): Promise<void> {
  const steps = await stepped(vmm, rounds, 0n);
  assert.ok(steps >= 1400 * rounds, `${steps} steps`);
}

async function straightCode(vmm: Vmm): Promise<void> {
  const rounds = 3;
  await stepped(vmm, rounds, 8n);
  const steps = await stepped(vmm, rounds, 256n);
  assert.ok(steps < 700 * rounds, `${steps} steps`);
}

/** Stops at breakpoints of both kinds, at a watchpoint and wherever it happens to be, steps a little, and goes on: the
 *  interrupts come in between. */
async function hereAndThere(vmm: Vmm): Promise<void> {
  const rounds = 25;
  const free = await freely(vmm, rounds);
  const bare = await begin(vmm, rounds);
  const { target } = bare;
  const watched = bare.at(place('sums') + 64n);
  await target.insert({ kind: 'watch', address: watched, length: 8, access: 'write' }, 0);
  await target.insert({ kind: 'hardware', address: bare.at(place('guarded')) }, 0);
  // At `inside` an exclusive sequence is under way: the exception clears the reservation, and the store fails.
  for (const name of ['sum', 'irq', 'inside'])
    await target.insert({ kind: 'software', address: bare.at(place(name)) }, 0);
  const end = bare.at(place('idle'));
  const seen = new Map<string, number>();
  for (let round = 0; (await bare.get('pc')) < end || (await bare.get('pc')) > end + 4n; round++) {
    assert.ok(round < 20_000, 'it does not end');
    // At its end nothing else stops it.
    const pause = setTimeout(() => target.interrupt(), round % 7 === 0 ? round % 3 : 200);
    for (const event of await target.resume()) seen.set(event.kind, (seen.get(event.kind) ?? 0) + 1);
    clearTimeout(pause);
    for (let steps = (round * 5) % 13; steps > 0; steps--) {
      const [event] = await target.step(0, Gva((await bare.get('pc')) + BigInt((round % 4) * 16)));
      assert.ok(event?.kind === 'step' || event?.kind === 'watchpoint', event?.kind);
    }
  }
  console.log(vmm, ...seen);
  assert.ok(
    ['breakpoint', 'watchpoint', 'interrupted'].every((kind) => seen.has(kind)),
    `${[...seen.keys()]}`,
  );
  assert.equal(seen.size, 3);
  const debugged = await outcome(bare);
  assert.ok(debugged.interrupts > 0n, `the timer has interrupted it ${debugged.interrupts} times`);
  assertSame(debugged, free);
}

/** Of x24 in the guest. */
const wantedFeatures = BigInt(process.env.CHECKSUM_FEATURES ?? 0);
const options = { timeout: 900_000 };
for (const vmm of vmms) {
  const skip = missing(vmm);
  // Emulated, a second is some hundreds of steps: only one of the VMMs is stepped all the way.
  const rounds = vmm === 'kvmtool' ? Number(process.env.CHECKSUM_ROUNDS ?? 8) : 2;
  await check(`${vmm}: every instruction stepped`, () => everyInstruction(vmm, rounds), { skip, ...options });
  await check(`${vmm}: straight code stepped at once`, () => straightCode(vmm), { skip, ...options });
  await check(`${vmm}: stopped here and there`, () => hereAndThere(vmm), { skip, ...options });
}
process.exit(0);
