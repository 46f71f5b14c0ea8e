// `index`: builds the index of names now, so that the first question for a name finds it.

import { UserError } from '../base/errors.ts';
import type { Subcommand } from './subcommand.ts';

export const indexSubcommand: Subcommand = {
  operands: '',
  summary: 'build the index of names, as a debug session does while it runs',
  run(image) {
    const { names } = image;
    if (names === undefined) {
      throw new UserError(image.debugInformationNotice ?? `There is no debug information in ${image.path}.`);
    }
    const wasThere = names.isReady;
    const unwritten = names.build();
    if (unwritten !== undefined) throw new UserError(`The index of names is not kept: ${unwritten.problem}`);
    return {
      json: () => ({ path: names.path, built: !wasThere }),
      text: () => [`The index of names is ${names.path}${wasThere ? ', and was there already' : ''}.`],
    };
  },
};
