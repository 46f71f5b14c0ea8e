/** What gdb's `info scope` says: the symbols of the innermost function around a place, and where they are. */
import { type Kernel, outputOf } from './kernel.ts';

/** One operation of an expression. */
export interface Operation {
  /** Offset in the expression's bytes, which jumps refer to. */
  readonly at: number;
  readonly name: string;
  readonly operand: string;
  /** It belongs to the operation before it, as what DW_OP_entry_value evaluates does. */
  readonly isNested: boolean;
}

/** A place that is said in words, and by operations where the words are that it is an expression. */
export interface Place {
  readonly text: string;
  readonly operations: readonly Operation[];
  /** The object's parts, when it is in several places: undefined where a part is nowhere. */
  readonly pieces: readonly { readonly place: Place | undefined; readonly bits: number }[];
}

export interface Range {
  readonly start: bigint;
  readonly end: bigint;
  readonly place: Place;
}

export interface Local {
  readonly name: string;
  /** In bytes; undefined where gdb says none: of what is optimised out. */
  readonly length: number | undefined;
  /** The one place it has everywhere, or those that it has in ranges of code. */
  readonly where: Place | readonly Range[];
}

export interface Scope {
  /** A function's name, or `*` and an address. */
  readonly question: string;
  /** Where it may be, as far as gdb knows a function there: it answers for one of a function's places, which may be in
   *  inlined copies of it. */
  readonly places: readonly bigint[];
  /** Those where gdb knows no function. */
  readonly elsewhere: readonly bigint[];
  readonly locals: readonly Local[];
  /** gdb gave up at the last one: at an expression that it does not know. */
  readonly isCut: boolean;
  /** Labels of the functions around its places, which gdb tells by the type it gives them. */
  readonly labels: ReadonlySet<string>;
}

/** Python in gdb: `info scope` says of a label whose code is gone what it says of such a variable, and not where it looks:
 *  where a breakpoint goes. */
const more = `def more(question, pc):
  breakpoint = gdb.Breakpoint(question)
  places = [location.address for location in breakpoint.locations]
  breakpoint.delete()
  names = set()
  known = {}
  for place in places + [pc]:
    block = gdb.block_for_pc(place)
    known[place] = block is not None and not block.is_static and not block.is_global
    while block is not None and not block.is_static and not block.is_global:
      names |= {symbol.name for symbol in block if symbol.type is not None and symbol.type.name == "__CORE_ADDR"}
      block = block.superblock
  print("Places: " + " ".join(hex(place) for place in places if known[place]))
  print("Elsewhere: " + " ".join(hex(place) for place in places if not known[place]))
  print("Labels: " + " ".join(sorted(names)))
`;

/** gdb's answers to questions, each with an address in the function that it is about. */
export function askScopes(kernel: Kernel, questions: readonly (readonly [string, bigint])[]): Promise<string> {
  const commands = questions.flatMap(([question, pc]) => [
    `echo \\n@${question}\\n`,
    `info scope ${question}`,
    `python more("${question}", ${pc})`,
  ]);
  const options = ['-nx', '-batch', '-iex', 'set debuginfod enabled off'];
  const words = ['set width 0', `python exec(${JSON.stringify(more)})`, ...commands].flatMap((each) => ['-ex', each]);
  return outputOf('gdb-multiarch', [...options, ...words, kernel.vmlinux]);
}

const operationLine = /^ +(\d+): DW_OP_([\w]+|convert<.*>) ?(.*)$/;

function operationOf(line: string): Operation | undefined {
  const [, at, name = '', operand = ''] = operationLine.exec(line) ?? [];
  // Offsets are right-aligned in six columns; what is nested is two further in.
  return at === undefined
    ? undefined
    : { at: Number(at), name, operand, isNested: /^ +\d+/.exec(line)?.[0].length === 8 };
}

/** A place from the lines that say it, without what is around it. */
export function placeOf(lines: readonly string[]): Place {
  const pieces: { place: Place | undefined; bits: number }[] = [];
  let text = '';
  let operations: Operation[] = [];
  const finish = (): Place => {
    const place = { text, operations, pieces: [] };
    text = '';
    operations = [];
    return place;
  };
  for (const line of lines) {
    const operation = operationOf(line);
    if (operation !== undefined) {
      operations.push(operation);
      continue;
    }
    for (const part of line.trim().split(', and ')) {
      const [, empty] = /^an empty (\d+)-byte piece$/.exec(part) ?? [];
      const [, words = '', size] = /^(.*?) ?\[(\d+)-byte piece\]$/.exec(part) ?? [];
      if (empty !== undefined) pieces.push({ place: undefined, bits: 8 * Number(empty) });
      else if (size === undefined) text += part;
      else {
        text += words;
        pieces.push({ place: finish(), bits: 8 * Number(size) });
      }
    }
  }
  return { ...finish(), pieces };
}

/** What is no variable. */
const isOther = /^a (?:typedef|label|function)\b/;

function scopeOf(answer: string): Scope {
  const [question = '', ...lines] = answer.split('\n');
  const locals: Local[] = [];
  const found = new Set<string>();
  const places: bigint[] = [];
  const elsewhere: bigint[] = [];
  let name = '';
  let ranges: { start: bigint; end: bigint; lines: string[] }[] | undefined;
  let own: string[] | undefined;
  const finish = (length: number | undefined): void => {
    const where =
      own === undefined
        ? ranges?.map(({ start, end, lines }) => ({ start, end, place: placeOf(lines) }))
        : placeOf(own);
    if (where !== undefined) locals.push({ name, length, where });
    [own, ranges] = [undefined, undefined];
  };
  for (const line of lines) {
    const [, kind, list = ''] = /^(Labels|Places|Elsewhere): (.*)$/.exec(line) ?? [];
    const items = list.split(' ').filter((item) => item !== '');
    if (kind === 'Labels') for (const label of items) found.add(label);
    else if (kind !== undefined) (kind === 'Places' ? places : elsewhere).push(...items.map(BigInt));
    const [, symbol, words = ''] = /^Symbol (.+?) is (.*)$/.exec(line) ?? [];
    const [, start, end, first = ''] = /Range (0x[0-9a-f]+)-(0x[0-9a-f]+): (.*)$/.exec(line) ?? [];
    const [, length] = /, length (\d+)\.$/.exec(line) ?? [];
    if (symbol !== undefined) {
      name = symbol;
      if (words === 'multi-location:') ranges = [];
      else if (!isOther.test(words)) own = [words.replace(/(?:, length \d+)?\.$/, '')];
      if (words === 'optimized out.') finish(undefined);
    } else if (start !== undefined && end !== undefined) {
      ranges?.push({ start: BigInt(start), end: BigInt(end), lines: [first] });
    } else if (/^ +(?:\d+: |\[\d+-byte piece\])/.test(line)) {
      (own ?? ranges?.at(-1)?.lines)?.push(line);
    }
    if (length !== undefined) finish(Number(length));
  }
  return { question, places, elsewhere, locals, isCut: own !== undefined || ranges !== undefined, labels: found };
}

export const scopesOf = (answers: string): readonly Scope[] =>
  answers
    .split(/^@/m)
    .slice(1)
    .map((answer) => scopeOf(answer));
