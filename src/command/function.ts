// `function NAME`: where a breakpoint on a function goes.

import { UserError } from '../base/errors.ts';
import { hex, type Subcommand } from './subcommand.ts';

export const functionSubcommand: Subcommand = {
  operands: 'NAME',
  summary: 'where a breakpoint on a function goes: every copy and inlined instance',
  run(image, [name = '']) {
    const locations = image.functionBreakpoint(name);
    if (locations.length === 0) {
      throw new UserError(`There is no function ${name} in ${image.path}. Names are those of C, without parentheses.`);
    }
    // Another function may be inlined at the very start of this one: what was asked for is told.
    const functionAt = (address: bigint): string => {
      const chain = image.inlinesAt(address);
      if (chain.some((frame) => frame.name === name)) return name;
      return chain.at(-1)?.name ?? image.symbolAt(address)?.symbol.name ?? name;
    };
    return {
      json: locations.map(({ address, file, line }) => ({
        address: hex(address),
        function: functionAt(address),
        file: file || null,
        line: line || null,
      })),
      text: locations.map(
        ({ address, file, line }) =>
          `${functionAt(address)} at ${hex(address)}${file === '' ? '' : `: file ${file}, line ${line}`}.`,
      ),
    };
  },
};
