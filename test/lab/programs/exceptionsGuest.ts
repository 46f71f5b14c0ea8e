/** The guest of guests/exceptions.s: where things are in it, and what exceptions it took. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { StopPoint } from '../../../src/target/target.ts';
import { type Bare, EL1H } from './bareVm.ts';

export const image = readFileSync('/job/guests/exceptions.Image');
const offsets = JSON.parse(readFileSync('/job/guests/exceptions.json', 'utf8')) as Record<string, string>;
export const place = (name: string): bigint => BigInt(offsets[name] ?? assert.fail(`no symbol ${name}`));

export const NZCV = 0xf000_0000n;
export const D = 1n << 9n;
export const MDSCR = { SS: 1n, KDE: 1n << 13n, MDE: 1n << 15n } as const;

/** What the guest's handlers expect to find, at EL1h unless told. */
const handlers = (bare: Bare): Record<string, bigint> => ({
  vbar_el1: bare.at(place('vectors')),
  sp_el1: bare.at(place('stack')),
  sp_el0: bare.at(place('stackEl0')),
  x28: bare.at(place('records')),
});

export async function go(
  bare: Bare,
  name: string,
  values: Readonly<Record<string, bigint>> = {},
  vcpu = 0,
): Promise<void> {
  await bare.set({ ...handlers(bare), pstate: EL1H, ...values, pc: bare.at(place(name)) }, vcpu);
}

export interface Exception {
  readonly vector: bigint;
  readonly esr: bigint;
  readonly elr: bigint;
  /** Without the flags, which are the code's. */
  readonly spsr: bigint;
  readonly far: bigint;
  readonly mdscr: bigint;
}

const recordWords = 6;

/** QEMU's emulation takes a step of an instruction that sets PSTATE.D, which makes software step inactive (Arm ARM,
 *  D2.10). */
const isNoStep = ({ esr, spsr }: Exception): boolean => esr >> 26n === 0x33n && (spsr & D) !== 0n;

/** The exceptions that the guest took since `go`. */
async function exceptions(bare: Bare): Promise<readonly Exception[]> {
  const start = bare.at(place('records'));
  const words = await bare.words(start, Number((await bare.get('x28')) - start) / 8);
  const taken = Array.from({ length: words.length / recordWords }, (_, index) => {
    const [vector = 0n, esr = 0n, elr = 0n, spsr = 0n, far = 0n, mdscr = 0n] = words.slice(recordWords * index);
    return { vector, esr, elr, spsr: spsr & ~NZCV, far, mdscr };
  });
  return taken.filter((exception) => !isNoStep(exception));
}

const show = (bare: Bare, taken: readonly Exception[]): readonly string[] =>
  taken.map(({ vector, esr, elr, spsr, far, mdscr }) => {
    const offset = (address: bigint): string => (address === 0n ? '0' : `image+${(address - bare.base).toString(16)}`);
    const [v, e, s, m] = [vector, esr, spsr, mdscr].map((value) => value.toString(16));
    return `vector ${v} ESR ${e} ELR ${offset(elr)} SPSR ${s} FAR ${offset(far)} MDSCR ${m}`;
  });

export async function assertExceptions(bare: Bare, expected: readonly Exception[], what = ''): Promise<void> {
  const [seen, wanted] = [show(bare, await exceptions(bare)), show(bare, expected)];
  for (const [index, line] of seen.entries()) assert.equal(line, wanted[index], `${what}: exception ${index}`);
  assert.equal(seen.length, wanted.length, `${what}: after ${seen.at(-1)}`);
}

// ESR_EL1 (Arm ARM, D24.2): 31:26 EC, 25 IL; BRK and SVC 15:0 immediate; DFSC, IFSC 0b100010; software step 24 ISV;
// watchpoint 6 WnR.
const IL = 1n << 25n;
const DEBUG = 0b100010n;
export const esr = {
  brk: (immediate: bigint) => (0x3cn << 26n) | IL | immediate,
  svc: (immediate: bigint) => (0x15n << 26n) | IL | immediate,
  breakpoint: (0x31n << 26n) | IL | DEBUG,
  watchRead: (0x35n << 26n) | IL | DEBUG,
  watchWrite: (0x35n << 26n) | IL | DEBUG | (1n << 6n),
  stepPending: (0x33n << 26n) | IL | DEBUG,
  stepped: (0x33n << 26n) | IL | (1n << 24n) | DEBUG,
} as const;

/** Stop points that are never reached. */
export function elsewhere(bare: Bare): Readonly<Record<StopPoint['kind'], StopPoint>> {
  const address = bare.at(place('start'));
  return {
    software: { kind: 'software', address },
    hardware: { kind: 'hardware', address },
    watch: { kind: 'watch', address, length: 4, access: 'write' },
  };
}
