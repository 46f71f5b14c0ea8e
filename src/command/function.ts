// `function NAME`: where a breakpoint on a function goes.

import { UserError } from '../base/errors.ts';
import { hex, type Subcommand } from './subcommand.ts';

export const functionSubcommand: Subcommand = {
  operands: 'NAME',
  summary: 'where a breakpoint on a function goes: every copy and inlined instance',
  run(image, [name = '']) {
    const locations = image.functionBreakpoint(name);
    if (locations.length === 0) {
      throw new UserError(
        `There is no function \`${name}\` in ${image.path}. Names are those of C, without parentheses.`,
      );
    }
    return {
      json: () =>
        locations.map(({ address, file, line }) => ({
          address: hex(address),
          function: name,
          file: file || null,
          line: line || null,
        })),
      text: () =>
        locations.map(
          ({ address, file, line }) =>
            `${name} at ${hex(address)}${file === '' ? '' : `: file ${file}, line ${line}`}.`,
        ),
    };
  },
};
