// `line FILE:LINE`: the addresses where a breakpoint on a source line goes.

import { UserError } from '../base/errors.ts';
import { hex, type Subcommand, symbolic, UsageError } from './subcommand.ts';

export const lineSubcommand: Subcommand = {
  operands: 'FILE:LINE',
  summary: 'the addresses of a source line, in headers and inlined copies too',
  run(image, [place = '']) {
    const [, file, digits] = /^(.+):(\d+)$/.exec(place) ?? [];
    const wanted = Number(digits);
    if (file === undefined || wanted === 0 || !Number.isSafeInteger(wanted))
      throw new UsageError(`\`${place}\` is not FILE:LINE.`);
    const locations = image.locationsOf(file, wanted);
    if (locations.length === 0) {
      throw new UserError(
        `No code from line ${wanted} of ${file} on in ${image.path}. Give a file of the image by the end of its path, such as init/main.c.`,
      );
    }
    return {
      json: () =>
        locations.map(({ address, file, line }) => ({
          address: hex(address),
          function: image.inlinesAt(address)[0]?.name ?? image.symbolAt(address)?.symbol.name ?? null,
          file,
          line,
        })),
      text: () =>
        locations.map(
          ({ address, file, line }) =>
            `Line ${line} of "${file}" starts at address ${hex(address)}${symbolic(image, address)}`,
        ),
    };
  },
};
