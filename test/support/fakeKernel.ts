// A little kernel for FakeTarget, with symbols as a SymbolFile would give them.
import type { RegisterDescription } from '../../src/arch/architecture.ts';
import type { SessionSymbols } from '../../src/dap/context.ts';
import type { CodeLocation, Symbol as ImageSymbol, LineRow, UnwindRow } from '../../src/symbols/image.ts';
import { FakeTarget, hypercall } from './fakeTarget.ts';

export const base = 0xffff_8000_0801_0000n;
export const data = 0xffff_8000_0900_0000n;
export const stackTop = 0xffff_8000_0a00_0ff0n;
const directory = '/build/linux';

type Emit = (at: bigint, labels: ReadonlyMap<string, bigint>) => number;
interface Line {
  readonly label?: string;
  readonly file?: string;
  readonly line?: number;
  readonly code: Emit;
}

const fixed =
  (word: number): Emit =>
  () =>
    word;
const branch =
  (opcode: number, label: string): Emit =>
  (at, labels) =>
    (opcode | Number(BigInt.asUintN(26, ((labels.get(label) ?? 0n) - at) / 4n))) >>> 0;
const cbnz =
  (register: number, label: string): Emit =>
  (at, labels) =>
    (0xb5000000 | (Number(BigInt.asUintN(19, ((labels.get(label) ?? 0n) - at) / 4n)) << 5) | register) >>> 0;
const movz = (register: number, value: number): Emit => fixed((0xd2800000 | (value << 5) | register) >>> 0);
const add = (d: number, n: number, value: number): Emit => fixed((0x91000000 | (value << 10) | (n << 5) | d) >>> 0);
const sub = (d: number, n: number, value: number): Emit => fixed((0xd1000000 | (value << 10) | (n << 5) | d) >>> 0);
const str = (t: number, n: number): Emit => fixed((0xf9000000 | (n << 5) | t) >>> 0);
const hvc = (number: number): Emit => fixed((0xd4000002 | (number << 5)) >>> 0);
const push = fixed(0xa9bf7bfd);
const pop = fixed(0xa8c17bfd);
const frame = add(29, 31, 0);
const ret = fixed(0xd65f03c0);
const nop = fixed(0xd503201f);
const bl = (label: string): Emit => branch(0x94000000, label);
const b = (label: string): Emit => branch(0x14000000, label);

const main = 'init/main.c';
const lib = 'lib/helper.c';
const program: readonly Line[] = [
  { label: '_start', code: nop },
  { code: nop },
  { code: hvc(hypercall.mapKernel) },
  { code: b('start_kernel') },
  { label: 'start_kernel', file: main, line: 10, code: push },
  { file: main, line: 10, code: frame },
  { file: main, line: 11, code: movz(0, 5) },
  { file: main, line: 11, code: nop },
  { file: main, line: 12, code: bl('helper') },
  { file: main, line: 12, code: nop },
  { file: main, line: 13, code: bl('asm_leaf') },
  { file: main, line: 14, code: movz(1, 3) },
  { label: '.loop', file: main, line: 15, code: sub(1, 1, 1) },
  { file: main, line: 15, code: str(1, 2) },
  { file: main, line: 16, code: cbnz(1, '.loop') },
  { file: main, line: 17, code: hvc(hypercall.powerOff) },
  { label: 'helper', file: lib, line: 20, code: push },
  { file: lib, line: 20, code: frame },
  { file: lib, line: 21, code: add(0, 0, 1) },
  { file: lib, line: 22, code: bl('inner') },
  { file: lib, line: 23, code: pop },
  { file: lib, line: 23, code: ret },
  { label: 'inner', file: lib, line: 30, code: push },
  { file: lib, line: 30, code: frame },
  { file: lib, line: 31, code: add(0, 0, 16) },
  { file: lib, line: 32, code: pop },
  { file: lib, line: 32, code: ret },
  { label: 'asm_leaf', code: add(3, 3, 1) },
  { code: ret },
  { label: 'secondary', file: main, line: 40, code: add(4, 4, 1) },
  { file: main, line: 41, code: b('secondary') },
  { label: 'twice', file: main, line: 50, code: push },
  { file: main, line: 50, code: frame },
  { file: main, line: 51, code: bl('helper') },
  { file: main, line: 51, code: bl('inner') },
  { file: main, line: 52, code: pop },
  { file: main, line: 52, code: ret },
  { label: 'waiter', file: main, line: 60, code: cbnz(5, 'waiter') },
  { file: main, line: 60, code: str(1, 2) },
  { file: main, line: 61, code: ret },
  { label: 'tail', file: main, line: 70, code: b('inner') },
];

const labels = new Map<string, bigint>();
program.forEach(({ label }, n) => {
  if (label) labels.set(label, base + BigInt(4 * n));
});
/** The address of a function of the little kernel. */
export const addressOf = (label: string, instruction = 0): bigint =>
  (labels.get(label) ?? 0n) + BigInt(4 * instruction);

const code = new Uint8Array(4 * program.length);
program.forEach(({ code: emit }, n) => {
  new DataView(code.buffer).setUint32(4 * n, emit(base + BigInt(4 * n), labels), true);
});

const functions = [...labels].filter(([name]) => !name.startsWith('.'));
const symbols: ImageSymbol[] = functions.map(([name, address], n) => {
  const end = functions[n + 1]?.[1] ?? base + BigInt(code.length);
  return { name, kind: 'function', address, size: end - address, global: true };
});
symbols.push({ name: 'jiffies', kind: 'object', address: data, size: 8n, global: true });

const rows: LineRow[] = [];
program.forEach(({ file, line }, n) => {
  const start = base + BigInt(4 * n);
  const last = rows.at(-1);
  if (file === undefined || line === undefined) return;
  if (last && last.file === file && last.line === line && last.end === start) {
    rows[rows.length - 1] = { ...last, end: start + 4n };
  } else rows.push({ file, directory, line, column: 1, start, end: start + 4n, isStatement: true });
});

const located = (row: LineRow): CodeLocation => ({ ...row, address: row.start });

// CFI as GCC makes it for these prologues: CFA is sp until the push, sp + 16 after it.
function unwindRow(address: bigint): UnwindRow | undefined {
  const symbol = symbols.find((each) => address >= each.address && address < each.address + each.size);
  if (symbol?.kind !== 'function' || !['start_kernel', 'helper', 'inner', 'twice'].includes(symbol.name))
    return undefined;
  const common = { returnAddress: 30, signalFrame: false, returnAddressSigned: false };
  const last = symbol.address + symbol.size - 4n;
  if (address === symbol.address || (address === last && symbol.name !== 'start_kernel')) {
    return {
      ...common,
      start: address,
      end: address + 4n,
      cfa: { kind: 'register', register: 31, offset: 0n },
      registers: new Map(),
    };
  }
  return {
    ...common,
    start: symbol.address + 4n,
    end: last,
    cfa: { kind: 'register', register: 31, offset: 16n },
    registers: new Map([
      [29, { kind: 'offset', offset: -16n } as const],
      [30, { kind: 'offset', offset: -8n } as const],
    ]),
  };
}

/** The row behind the prologue: a function's second, if it has one. */
function entryRow(symbol: ImageSymbol): LineRow[] {
  const own = rows.filter((row) => row.start >= symbol.address && row.start < symbol.address + symbol.size);
  return own.length > 1 ? own.slice(1, 2) : own;
}

export const fakeSymbols: SessionSymbols = {
  path: '/fake/vmlinux',
  buildId: '00112233445566778899aabbccddeeff00112233',
  debugInformationNotice: undefined,
  frameRule: async () => undefined,
  machine: 'aarch64',
  sections: [],
  symbolsNamed: (name) => symbols.filter((symbol) => symbol.name === name),
  symbolsBeginningWith: (prefix, limit) => symbols.filter(({ name }) => name.startsWith(prefix)).slice(0, limit),
  symbolAt: (address) => {
    const symbol = symbols.find((each) => address >= each.address && address < each.address + each.size);
    return symbol && { symbol, offset: address - symbol.address };
  },
  lineAt: (address) => rows.find((row) => address >= row.start && address < row.end),
  hasStatement: (address, { file, line }) =>
    rows.some((row) => row.start === address && row.file === file && row.line === line),
  locationsOf: (file, line) => {
    const wanted = rows.filter((row) => `${directory}/${row.file}`.endsWith(file.startsWith('/') ? file : `/${file}`));
    const next = Math.min(...wanted.filter((row) => row.line >= line).map((row) => row.line));
    return wanted.filter((row) => row.line === next).map(located);
  },
  linesWithCode: (file, from, to) =>
    [...new Set(rows.filter((row) => file.endsWith(row.file)).map((row) => row.line))].filter(
      (line) => line >= from && line <= to,
    ),
  functionBreakpoint: (name) =>
    symbols
      .filter((each) => each.name === name)
      .flatMap(entryRow)
      .map(located),
  entryOf: (address) => symbols.filter((each) => each.address === address).flatMap(entryRow)[0]?.start ?? address,
  unwindRow,
  imageBytes: (address, length) => {
    const offset = Number(address - base);
    return offset >= 0 && offset + length <= code.length ? code.slice(offset, offset + length) : undefined;
  },
  inlinesAt: () => [],
  neverReturns: () => false,
  variablesAt: () => [],
  staticsAt: () => [],
  locate: async () => ({ kind: 'none', why: 'optimised out' }),
  locateReferenced: async () => ({ kind: 'none', why: 'optimised out' }),
  typeNamed: () => undefined,
  variableNamed: () => undefined,
  functionType: () => undefined,
  enumeratorNamed: () => undefined,
  indexNames: async () => undefined,
  close: () => undefined,
};

/** The guest at its first instruction, its code not mapped yet; vCPU 1 and up spin in `secondary`. */
export function fakeGuest(
  vcpus = 1,
  options: { mapped?: boolean; registers?: readonly RegisterDescription[] } = {},
): FakeTarget {
  const target = new FakeTarget(vcpus, options.registers);
  target.load(base, code);
  if (options.mapped !== true) target.hidden.add(base);
  target.load(data, new Uint8Array(64));
  target.load(stackTop - 0xff0n, new Uint8Array(4096));
  for (const vcpu of target.vcpus) {
    target.set(vcpu, 'pc', vcpu === 0 ? base : addressOf('secondary'));
    target.set(vcpu, 'sp', stackTop - BigInt(0x400 * vcpu));
    target.set(vcpu, 'x2', data + 8n);
  }
  return target;
}
