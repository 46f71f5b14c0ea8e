/** The symbols of the fake kernel, with a function inlined into it. */
import { addressOf, fakeSymbols } from './fakeKernel.ts';

/** The body of the loop in start_kernel() is that of a function inlined there. */
export const inlined = {
  ...fakeSymbols,
  inlinesAt: (address: bigint) => {
    const outer = {
      kind: 'function',
      name: 'start_kernel',
      die: 1,
      entry: addressOf('start_kernel'),
      call: undefined,
      begins: address === addressOf('start_kernel'),
    } as const;
    const inner = {
      kind: 'inlined',
      name: 'body',
      die: 2,
      entry: addressOf('.loop'),
      call: { file: 'init/main.c', line: 14, column: 1 },
      begins: address === addressOf('.loop'),
    } as const;
    const isInner = address >= addressOf('.loop') && address < addressOf('.loop', 2);
    const isOuter = address >= addressOf('start_kernel') && address < addressOf('helper');
    return isInner ? [inner, outer] : isOuter ? [outer] : [];
  },
};

/** The same, called by a statement that begins with it. */
export const inlinedCall = {
  ...inlined,
  inlinesAt: (address: bigint) =>
    inlined.inlinesAt(address).map((each) => (each.call ? { ...each, call: { ...each.call, line: 15 } } : each)),
  lineAt: (address: bigint) => {
    const row = fakeSymbols.lineAt(address);
    return row?.line === 15 ? { ...row, file: 'lib/helper.c', line: 80 } : row;
  },
};
