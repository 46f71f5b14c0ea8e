/** What three programs say of addresses, and this one: functions and lines, inlined calls included. */
import { addressSubcommand } from '../../src/command/address.ts';
import type { SymbolFile } from '../../src/symbols/image.ts';
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

/** What `kvm-debug symbols VMLINUX addr` prints as JSON. */
interface Answer {
  readonly address: string;
  readonly function: string | null;
  readonly file: string | null;
  readonly line: number | null;
  readonly inlined: readonly {
    readonly function: string;
    readonly file: string | null;
    readonly line: number | null;
  }[];
}

/** Frames as `addr` has them. */
export async function framesOf(image: SymbolFile, addresses: readonly string[]): Promise<Frames> {
  const answers = (await addressSubcommand.run(image, addresses)).json() as readonly Answer[];
  return new Map(
    answers.map(({ address, inlined, ...innermost }) => [
      address,
      [innermost, ...inlined].map(({ function: name, file, line }) => ({
        function: name ?? '',
        file: file ?? '',
        line: line ?? 0,
      })),
    ]),
  );
}

/** A frame as text, without what the programs agree to differ in:
 *  - a file is relative to the compilation directory or not, and `//` and `/./` are left in paths or not;
 *  - where there is no line some print `??`, some the name of the STT_FILE symbol;
 *  - of `name.isra.0` and its like some print the symbol, some DW_AT_name. */
const textOf = ({ function: name, file, line }: Frame): string => {
  const path = file.replace(/^debian\/build\/build_\w+?_none_cloud-\w+?\//, '').replaceAll(/\/(\.?\/)+/g, '/');
  return `${name.replace(/(\.(part|isra|constprop)\.\d+|\.cold)+$/, '')} ${line === 0 ? '??' : `${path}:${line}`}`;
};
export const chainOf = (frames: readonly Frame[]): string => frames.map(textOf).join(', from ');

/** What two of three say. */
export const majority = ([a, b, c]: readonly (string | undefined)[]): string | undefined =>
  a === b || a === c ? a : b === c ? b : undefined;
