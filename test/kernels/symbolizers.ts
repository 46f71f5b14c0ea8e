/** What three programs say of addresses: functions and lines, inlined calls included. */
import { type Architecture, linesOf, outputOf } from './kernel.ts';

export interface Frame {
  readonly function: string;
  /** With the unit's directory in front, unless that is absolute. */
  readonly file: string;
  /** 0 where there is none. */
  readonly line: number;
}

/** Frames by address, innermost first. */
export type Frames = ReadonlyMap<string, readonly Frame[]>;

interface Question {
  readonly path: string;
  readonly architecture: Architecture;
  /** With 0x, lower case, without zeros in front. */
  readonly addresses: readonly string[];
  /** Addresses are offsets in this section of a relocatable file. */
  readonly section?: string;
}

const short = (address: string): string => `0x${BigInt(address).toString(16)}`;

/** `function` and `file:line` in turns behind each address. elfutils appends the column, and where a function was inlined;
 *  binutils a discriminator. */
async function inTurns(lines: AsyncIterable<string>, { addresses }: Question): Promise<Frames> {
  const all = new Map<string, Frame[]>();
  let frames: Frame[] = [];
  let name: string | undefined;
  let answered = 0;
  for await (const line of lines) {
    if (/^0x[0-9a-f]+$/.test(line)) {
      frames = [];
      // Answers are in the order of the questions; elfutils adds where it takes the section to be.
      all.set(addresses[answered++] ?? '', frames);
    } else if (name === undefined) {
      name = line.replace(/ inlined at .*/, '');
    } else {
      const [, file = '', number = '0'] = /^(.*?):(\d+|\?)(?::\d+)?(?: \(discriminator \d+\))?$/.exec(line) ?? [];
      frames.push({ function: name, file, line: Number(number) || 0 });
      name = undefined;
    }
  }
  return all;
}

const input = ({ addresses }: Question): string => `${addresses.join('\n')}\n`;
const sectionOption = ({ section }: Question): string[] => (section === undefined ? [] : ['-j', section]);

export function binutils(question: Question): Promise<Frames> {
  const machine = question.architecture === 'arm64' ? 'aarch64' : 'x86_64';
  const options = ['-e', question.path, '-a', '-i', '-f', ...sectionOption(question)];
  return inTurns(linesOf(`${machine}-linux-gnu-addr2line`, options, input(question)), question);
}

export function elfutils(question: Question): Promise<Frames> {
  const options = ['-e', question.path, '-a', '-i', '-f', ...sectionOption(question)];
  return inTurns(linesOf('eu-addr2line', options, input(question)), question);
}

interface LlvmAnswer {
  readonly Address: string;
  readonly Symbol: readonly { readonly FunctionName: string; readonly FileName: string; readonly Line: number }[];
}

export async function llvm(question: Question): Promise<Frames> {
  const options = [`--obj=${question.path}`, '--output-style=JSON', '--inlines'];
  const answers = (await outputOf('llvm-symbolizer', options, input(question))).split('\n');
  const frames = answers.map((text) => {
    const answer = JSON.parse(text) as LlvmAnswer;
    return [
      short(answer.Address),
      answer.Symbol.map(({ FunctionName, FileName, Line }) => ({ function: FunctionName, file: FileName, line: Line })),
    ] as const;
  });
  return new Map(frames);
}
