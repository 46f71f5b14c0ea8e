// Everything that can be asked of a symbol file, as far as one call goes: for tests of damaged ones.

import type { FrameAccess, SymbolFile } from '../../src/symbols/image.ts';
import { buildIndex } from '../../src/symbols/index/builder.ts';
import { declaration, sizeOf, stripped, type Type } from '../../src/symbols/types.ts';

export interface Names {
  readonly addresses: readonly bigint[];
  readonly functions: readonly string[];
  readonly variables: readonly string[];
  readonly structs: readonly string[];
  readonly enumerators: readonly string[];
  readonly lines: readonly (readonly [file: string, line: number])[];
}

/** Types reached from one. */
const typeLimit = 300;

const explore = (first: Type | undefined): void => {
  const seen = new Set<Type>();
  const queue = first === undefined ? [] : [first];
  for (let type = queue.shift(); type !== undefined && seen.size < typeLimit; type = queue.shift()) {
    if (seen.has(type)) continue;
    seen.add(type);
    declaration(type, 'x');
    sizeOf(type);
    const real = stripped(type);
    switch (real.kind) {
      case 'struct':
      case 'union':
      case 'class':
        for (const member of real.members) queue.push(member.type);
        break;
      case 'pointer':
        queue.push(real.target);
        break;
      case 'array':
        queue.push(real.element);
        break;
      case 'function':
        queue.push(real.returns, ...real.parameters);
        break;
    }
  }
};

export const questions = (names: Names): ((file: SymbolFile) => void)[] => [
  (file) => file.sections,
  (file) => file.files(),
  (file) => {
    if (file.names !== undefined) buildIndex(file.names.dies, 'key');
  },
  ...names.lines.flatMap(([path, line]) => [
    (file: SymbolFile) => file.locationsOf(path, line),
    (file: SymbolFile) => file.linesWithCode(path, 1, 1000),
  ]),
  ...names.functions.flatMap((name) => [
    (file: SymbolFile) => file.symbolsNamed(name),
    (file: SymbolFile) => file.functionBreakpoint(name),
    (file: SymbolFile) => explore(file.functionType(name)),
  ]),
  ...names.variables.map((name) => (file: SymbolFile) => explore(file.variableNamed(name)?.type)),
  ...names.variables.map((name) => (file: SymbolFile) => file.variableNamed(name, undefined, names.functions[0] ?? '')),
  ...names.structs.map((name) => (file: SymbolFile) => explore(file.typeNamed('struct', name))),
  ...names.enumerators.map((name) => (file: SymbolFile) => file.enumeratorNamed(name)),
  ...names.addresses.flatMap((address) => [
    (file: SymbolFile) => file.symbolAt(address),
    (file: SymbolFile) => file.lineAt(address),
    (file: SymbolFile) => file.entryOf(address),
    (file: SymbolFile) => file.unwindRow(address),
    (file: SymbolFile) => file.imageBytes(address, 16),
    (file: SymbolFile) => {
      for (const { type } of file.staticsAt(address)) explore(type);
    },
    (file: SymbolFile) => {
      file.inlinesAt(address).forEach((_, depth) => {
        for (const { type } of file.variablesAt(address, depth)) explore(type);
      });
    },
  ]),
];

/** A frame in which every register and every word of memory is known. */
const frameAt = (pc: bigint): FrameAccess => ({
  pc,
  bias: 0n,
  register: (number) => BigInt(number) * 0x1000n,
  cfa: async () => 0x8000n,
  read: async (_address, length) => new Uint8Array(Math.min(length, 4096)),
  caller: async () => frameAt(pc),
});

/** The same for what is answered asynchronously. */
export const locate = async (file: SymbolFile, address: bigint, failed: (error: unknown) => void): Promise<void> => {
  const attempt = async (action: () => unknown): Promise<void> => {
    try {
      await action();
    } catch (error) {
      failed(error);
    }
  };
  await attempt(async () => {
    for (let depth = 0; depth < file.inlinesAt(address).length; depth++) {
      for (const variable of file.variablesAt(address, depth)) {
        await attempt(() => file.locate(variable, frameAt(address)));
      }
    }
  });
};
