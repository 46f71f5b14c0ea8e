// The command line `kvm-debug symbols VMLINUX SUBCOMMAND …`: its arguments, its output, its exit status.

import { parseArgs } from 'node:util';
import { messageOf, UserError } from '../base/errors.ts';
import { SymbolFile } from '../symbols/image.ts';
import { addressSubcommand } from './address.ts';
import { functionSubcommand } from './function.ts';
import { indexSubcommand } from './index.ts';
import { lineSubcommand } from './line.ts';
import { printSubcommand } from './print.ts';
import { type Subcommand, UsageError } from './subcommand.ts';
import { typeSubcommand } from './type.ts';

/** Every subcommand, in the order of the usage text. */
const subcommands: ReadonlyMap<string, Subcommand> = new Map([
  ['line', lineSubcommand],
  ['addr', addressSubcommand],
  ['function', functionSubcommand],
  ['type', typeSubcommand],
  ['print', printSubcommand],
  ['index', indexSubcommand],
]);

const usage = (): string => {
  const rows = [...subcommands].map(
    ([name, { operands, summary }]) => [`${name} ${operands}`.trim(), summary] as const,
  );
  const width = Math.max(...rows.map(([synopsis]) => synopsis.length));
  return `Usage: kvm-debug symbols [--json] VMLINUX SUBCOMMAND [OPERAND…]

Answers questions about the debug information of a kernel or of a module.

${rows.map(([synopsis, summary]) => `  ${synopsis.padEnd(width)}  ${summary}`).join('\n')}

  --json     print JSON
  --version  print the version
  --help     print this text
`;
};

export interface Output {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
}

interface Question {
  readonly path: string;
  readonly subcommand: Subcommand;
  readonly operands: readonly string[];
  readonly json: boolean;
}

const options = {
  json: { type: 'boolean', default: false },
  version: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

const parse = (words: readonly string[]) => {
  try {
    return parseArgs({ args: [...words], options, allowPositionals: true });
  } catch (error) {
    // parseArgs throws only for what it was given; the first sentence of its text says what it is.
    const [first = ''] = messageOf(error).split('. ');
    throw new UsageError(`${first.replaceAll("'", '`')}.`, { cause: error });
  }
};

const questionOf = (positionals: readonly string[], json: boolean): Question => {
  const [command, path, name, ...operands] = positionals;
  if (command === undefined) throw new UsageError('A command is missing.');
  if (command !== 'symbols') throw new UsageError(`There is no command \`${command}\`.`);
  if (path === undefined) throw new UsageError('The path of an image is missing.');
  if (name === undefined) throw new UsageError('A subcommand is missing.');
  const subcommand = subcommands.get(name);
  if (subcommand === undefined) throw new UsageError(`There is no subcommand \`${name}\`.`);
  const several = subcommand.operands.endsWith('…');
  const wanted = subcommand.operands === '' ? 0 : 1;
  if (operands.length < wanted || (operands.length > wanted && !several)) {
    const given = operands.length === 0 ? 'nothing' : `\`${operands.join(' ')}\``;
    throw new UsageError(`\`${name}\` takes ${subcommand.operands || 'no operand'}, not ${given}.`);
  }
  return { path, subcommand, operands, json };
};

const answer = async ({ path, subcommand, operands, json }: Question, { out }: Output): Promise<void> => {
  const image = SymbolFile.open(path);
  try {
    const found = await subcommand.run(image, operands);
    out(
      json
        ? `${JSON.stringify(found.json())}\n`
        : found
            .text()
            .map((line) => `${line}\n`)
            .join(''),
    );
  } finally {
    image.close();
  }
};

/** Runs the command and returns its exit status: 0, 1 when there is no answer, 2 when the command line is wrong. Errors
 *  that are no UserError are bugs, and thrown. */
export const runCommand = async (words: readonly string[], version: string, output: Output): Promise<number> => {
  try {
    const { values, positionals } = parse(words);
    if (values.help) output.out(usage());
    else if (values.version) output.out(`${version}\n`);
    else await answer(questionOf(positionals, values.json), output);
    return 0;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const wrongUsage = error instanceof UsageError;
    output.error(`${error.message}\n${wrongUsage ? `\n${usage()}` : ''}`);
    return wrongUsage ? 2 : 1;
  }
};
