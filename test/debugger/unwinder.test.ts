import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aarch64 } from '../../src/arch/aarch64/aarch64.ts';
import { Gva } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import type { VirtualMemory } from '../../src/base/memory.ts';
import { KernelSymbols, type SymbolSource } from '../../src/debugger/symbols.ts';
import { Stack } from '../../src/debugger/unwinder.ts';
import type { Symbol as ImageSymbol, UnwindRow } from '../../src/symbols/image.ts';

const text = 0xffff_8000_0800_0000n;
const stack = 0xffff_8000_0a00_0000n;

/** Memory of 64-bit words. */
function wordMemory(words: ReadonlyMap<bigint, bigint>): VirtualMemory {
  return {
    read: async (address, length) =>
      Uint8Array.from({ length }, (_, n) => {
        const at = address + BigInt(n);
        if (at < stack || at >= stack + 0x4000n) throw new MemoryFault('virtual', at, 'not mapped');
        return Number(((words.get(at & ~7n) ?? 0n) >> (8n * (at & 7n))) & 0xffn);
      }),
    write: async () => undefined,
  };
}

/** Functions of 0x100 bytes each, from `text` on. */
function symbolsOf(
  names: readonly string[],
  rows: Readonly<Record<string, UnwindRow>> = {},
  frameRule?: SymbolSource['frameRule'],
): KernelSymbols {
  const symbols: ImageSymbol[] = names.map((name, n) => {
    return { name, kind: 'function', address: text + BigInt(0x100 * n), size: 0x100n, global: true };
  });
  const at = (address: bigint) => {
    const symbol = symbols[Number((address - text) / 0x100n)];
    return address >= text && symbol ? { symbol, offset: address - symbol.address } : undefined;
  };
  const source = { symbolAt: at, unwindRow: (address: bigint) => rows[at(address)?.symbol.name ?? ''], frameRule };
  return new KernelSymbols(source as unknown as SymbolSource);
}

const inFunction = (n: number, offset = 0x40): bigint => text + BigInt(0x100 * n + offset);

async function unwind(
  symbols: KernelSymbols | undefined,
  registers: Readonly<Record<string, bigint>>,
  words: readonly (readonly [bigint, bigint])[],
): Promise<{ names: string[]; origins: string[]; end: string | undefined; stack: Stack }> {
  const all = new Map(aarch64.generalRegisters.map(({ name }) => [name, registers[name] ?? 0n]));
  const unwound = new Stack(aarch64, symbols, wordMemory(new Map(words)), async () => all);
  const frames = await unwound.frames(1000);
  return {
    names: frames.map(({ pc, lookup }) => symbols?.describe(lookup)?.replace(/\+.*/, '') ?? `0x${pc.toString(16)}`),
    origins: frames.map(({ origin }) => origin),
    end: unwound.end,
    stack: unwound,
  };
}

test('frame records, PAC stripped, to the empty record', async () => {
  const pac = 0x002a_0000_0000_0000n;
  const result = await unwind(
    symbolsOf(['a', 'b', 'c']),
    { pc: inFunction(0), x29: stack, sp: stack, x30: inFunction(0, 0x20) },
    [
      [stack, stack + 0x40n],
      [stack + 8n, inFunction(1) ^ pac],
      [stack + 0x40n, stack + 0x80n],
      [stack + 0x48n, inFunction(2)],
    ],
  );
  assert.deepEqual(result.names, ['a', 'b', 'c']);
  assert.deepEqual(result.origins, ['vcpu', 'frameRecord', 'frameRecord']);
  assert.equal(result.end, 'outermost frame');
});

test('an assembly leaf has its caller in the link register', async () => {
  const result = await unwind(symbolsOf(['leaf', 'b', 'c']), { pc: inFunction(0), x29: stack, x30: inFunction(1) }, [
    [stack, stack + 0x40n],
    [stack + 8n, inFunction(2)],
  ]);
  assert.deepEqual(result.names, ['leaf', 'b', 'c']);
  assert.deepEqual(result.origins, ['vcpu', 'linkRegister', 'frameRecord']);
});

test('a stack that refers back to itself, or to nowhere, ends', async () => {
  const loop = await unwind(symbolsOf(['a', 'b']), { pc: inFunction(0), x29: stack, x30: inFunction(0, 4) }, [
    [stack, stack],
    [stack + 8n, inFunction(1)],
  ]);
  assert.equal(loop.names.length, 2);
  assert.equal(loop.end, 'the stack refers back to itself');
  const wild = await unwind(symbolsOf(['a']), { pc: inFunction(0), x29: 0x1230n, x30: inFunction(0, 4) }, []);
  assert.deepEqual(wild.names, ['a']);
  assert.match(wild.end ?? '', /cannot be read: Cannot access virtual memory at 0x1230/);
  const odd = await unwind(undefined, { pc: 0x4000_0000n, x29: 3n }, []);
  assert.match(odd.end ?? '', /not aligned/);
});

test('a deep stack is bounded', async () => {
  const words: [bigint, bigint][] = [];
  for (let n = 0n; n < 500n; n++)
    words.push([stack + n * 16n, stack + (n + 1n) * 16n], [stack + n * 16n + 8n, inFunction(1)]);
  const deep = await unwind(symbolsOf(['a', 'b']), { pc: inFunction(0), x29: stack }, words);
  assert.equal(deep.names.length, 256);
  assert.match(deep.end ?? '', /more than 256/);
});

// pt_regs at `base`, its stackframe record at 304 (to v6.12) or 296 (from v6.13).
function ptRegs(
  base: bigint,
  values: { pc: bigint; sp: bigint; x29: bigint; pstate: bigint },
  meta: boolean,
): [bigint, bigint][] {
  const user = (values.pstate & 0xfn) === 0n;
  const record = base + (meta ? 296n : 304n);
  return [
    [base + 8n * 29n, values.x29],
    [base + 8n * 30n, inFunction(9)],
    [base + 8n * 19n, 0x1919n],
    [base + 248n, values.sp],
    [base + 256n, values.pc],
    [base + 264n, values.pstate],
    [record, meta || user ? 0n : values.x29],
    [record + 8n, meta || user ? 0n : values.pc],
    [record + 16n, meta ? 2n : 0n],
  ];
}

for (const meta of [false, true]) {
  test(`through an interrupt in the kernel, ${meta ? 'with frame metadata' : 'before v6.13'}`, async () => {
    const base = stack + 0x200n;
    const handler = stack + 0x100n;
    const symbols = symbolsOf(['handler', 'el1h_64_irq', 'victim', 'caller']);
    const result = await unwind(symbols, { pc: inFunction(0), x29: handler, sp: handler, x30: inFunction(0, 8) }, [
      [handler, base + (meta ? 296n : 304n)],
      [handler + 8n, inFunction(1)],
      ...ptRegs(base, { pc: inFunction(2), sp: stack + 0x400n, x29: stack + 0x440n, pstate: 0x60400005n }, meta),
      [stack + 0x440n, 0n],
      [stack + 0x448n, inFunction(3)],
    ]);
    assert.deepEqual(result.names, ['handler', 'el1h_64_irq', 'victim', 'caller']);
    assert.deepEqual(result.origins, ['vcpu', 'frameRecord', 'exception', 'frameRecord']);
    const victim = (await result.stack.frames(3))[2];
    assert.equal(victim?.registers.get('sp'), stack + 0x400n);
    assert.equal(victim?.registers.get('x19'), 0x1919n);
    // The interrupted instruction itself, not the one before.
    assert.equal(victim?.lookup, inFunction(2));
  });

  test(`an entry from user mode is the end, ${meta ? 'with frame metadata' : 'before v6.13'}`, async () => {
    const base = stack + 0x200n;
    const result = await unwind(
      symbolsOf(['el0t_64_sync']),
      { pc: inFunction(0), sp: base, x29: base + (meta ? 296n : 304n) },
      [...ptRegs(base, { pc: 0xaaaa_0000n, sp: 0xffff_0000n, x29: 0xffff_0010n, pstate: 0x80000000n }, meta)],
    );
    assert.deepEqual(result.names, ['el0t_64_sync', '0xaaaa0000']);
    assert.equal(result.end, 'entered from user mode');
  });
}

test('an exception entry whose saved registers do not agree ends the stack', async () => {
  const base = stack + 0x200n;
  const words = ptRegs(base, { pc: inFunction(2), sp: stack, x29: stack + 0x440n, pstate: 5n }, false);
  const broken = words.map(([at, value]) =>
    at === base + 256n ? ([at, value + 4n] as const) : ([at, value] as const),
  );
  const result = await unwind(symbolsOf(['el1h_64_irq']), { pc: inFunction(0), sp: base, x29: base + 304n }, broken);
  assert.equal(result.names.length, 1);
  assert.match(result.end ?? '', /el1h_64_irq saved at 0x.* are not complete/);
});

test('call frame information, also where only the frame pointer is known', async () => {
  const row: UnwindRow = {
    start: text,
    end: text + 0x1000n,
    cfa: { kind: 'register', register: 31, offset: 32n },
    registers: new Map([
      [29, { kind: 'offset', offset: -32n } as const],
      [30, { kind: 'offset', offset: -24n } as const],
      [19, { kind: 'offset', offset: -16n } as const],
    ]),
    returnAddress: 30,
    signalFrame: false,
    returnAddressSigned: false,
  };
  const symbols = symbolsOf(['a', 'asm', 'b', 'c'], { a: row, b: row });
  const result = await unwind(symbols, { pc: inFunction(0), sp: stack, x29: stack, x19: 1n, x20: 20n }, [
    [stack, stack + 0x40n],
    [stack + 8n, inFunction(1)],
    [stack + 16n, 0x1111n],
    [stack + 0x40n, stack + 0x80n],
    [stack + 0x48n, inFunction(2)],
    [stack + 0x80n, 0n],
    [stack + 0x88n, inFunction(3)],
    [stack + 0x90n, 0x2222n],
  ]);
  assert.deepEqual(result.names, ['a', 'asm', 'b', 'c']);
  assert.deepEqual(result.origins, ['vcpu', 'cfi', 'frameRecord', 'cfi']);
  const frames = await result.stack.frames(4);
  assert.equal(frames[1]?.registers.get('sp'), stack + 32n);
  assert.equal(frames[1]?.registers.get('x19'), 0x1111n);
  assert.equal(frames[1]?.registers.get('x20'), 20n);
  assert.equal(frames[1]?.registers.has('x0'), false);
  assert.equal(frames[3]?.registers.get('sp'), stack + 0xa0n);
  assert.equal(frames[3]?.registers.get('x19'), 0x2222n);
  assert.equal(Gva(frames[3]?.pc ?? 0n), inFunction(3));
});

test('rules that are expressions: a function that aligns its stack', async () => {
  // x29 + 16 is where the frame address was kept; gcc writes the like for x86-64's DRAP, and PLTs have it.
  const [kept, saved] = [1, 2].map((byte) => Uint8Array.of(byte));
  const rows = {
    a: {
      start: text,
      end: text + 0x100n,
      cfa: { kind: 'expression', bytes: kept },
      registers: new Map([
        [30, { kind: 'expression', bytes: saved }],
        [19, { kind: 'valExpression', bytes: saved }],
      ]),
      returnAddress: 30,
      signalFrame: false,
      returnAddressSigned: false,
    },
  } as unknown as Readonly<Record<string, UnwindRow>>;
  const asked: unknown[] = [];
  const symbols = symbolsOf(['a', 'b'], rows, async (expression, frame, initial) => {
    asked.push([expression, initial, await frame.cfa(), await frame.caller(), frame.register(29)]);
    return expression === kept ? stack + 0x80n : stack + 0x10n;
  });
  const result = await unwind(symbols, { pc: inFunction(0), x29: stack, sp: stack }, [[stack + 0x10n, inFunction(1)]]);
  assert.deepEqual(result.names.slice(0, 2), ['a', 'b']);
  const [, caller] = await result.stack.frames(2);
  assert.deepEqual(
    ['sp', 'x19'].map((name) => caller?.registers.get(name)),
    [stack + 0x80n, stack + 0x10n],
  );
  assert.deepEqual(asked.slice(0, 3), [
    [kept, [], undefined, undefined, stack],
    [saved, [stack + 0x80n], stack + 0x80n, undefined, stack],
    [saved, [stack + 0x80n], stack + 0x80n, undefined, stack],
  ]);
});
