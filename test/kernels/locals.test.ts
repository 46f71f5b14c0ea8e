// Arguments and locals of functions of real kernels, and variables of static storage: which there are, how large they are,
// and where, as gdb says. Each class of agreement is counted, each of difference is named here.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Location, SymbolFile, Variable } from '../../src/symbols/image.ts';
import { sizeOf } from '../../src/symbols/types.ts';
import { AbstractBlocks } from './abstractBlocks.ts';
import { evaluate, frameAt, integer } from './gdbExpression.ts';
import { askScopes, type Local, type Place, type Scope, scopesOf } from './gdbScopes.ts';
import { type Architecture, architectures, Kernel, linesOf, outputOf, registerNumber, seeded } from './kernel.ts';

const count = 300;
/** Addresses in each function, besides the place of a breakpoint on it: what is in blocks and in inlined copies. */
const inside = 2;
const statics = 300;

interface NamedSymbol {
  readonly name: string;
  readonly address: bigint;
  readonly size: number;
}

/** Some of those that have a size and a name of C's that no other symbol has. */
async function someSymbols(kernel: Kernel, wanted: 'FUNC' | 'OBJECT', many: number): Promise<readonly NamedSymbol[]> {
  const known = new Map<string, NamedSymbol | undefined>();
  for await (const line of linesOf('readelf', ['-sW', kernel.vmlinux])) {
    const [, value, size, type, , , section, name = ''] = line.trim().split(/\s+/);
    if (section === undefined || section === 'UND' || !/^[a-z_]\w*$/i.test(name)) continue;
    const isWanted = type === wanted && Number(size) > 0 && !known.has(name);
    known.set(name, isWanted ? { name, address: BigInt(`0x${value}`), size: Number(size) } : undefined);
  }
  const all = [...known.values()].filter((each) => each !== undefined);
  const random = seeded(31);
  const chosen = new Set<NamedSymbol>();
  while (chosen.size < many) chosen.add(all[random(all.length)] ?? assert.fail());
  return [...chosen];
}

async function askGdb(kernel: Kernel, architecture: Architecture): Promise<string> {
  const random = seeded(37);
  // Instructions of arm64 have four bytes. On amd64 it may be the middle of one: ranges are of bytes.
  const unit = architecture === 'arm64' ? 4 : 1;
  const questions = (await someSymbols(kernel, 'FUNC', count)).flatMap(({ name, address, size }) => {
    const pcs = Array.from({ length: inside }, () => address + BigInt(unit * random(Math.ceil(size / unit))));
    const named: [string, bigint] = [name, pcs[0] ?? address];
    return [named, ...pcs.map((pc): [string, bigint] => [`*0x${pc.toString(16)}`, pc])];
  });
  return askScopes(kernel, questions);
}

const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);
const readable = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? each.toString(16) : each));

type Counts = Record<string, number>;
const add = (counts: Counts, name: string): void => {
  counts[name] = (counts[name] ?? 0) + 1;
};

const sum = (all: Counts, more: Counts): void => {
  for (const [name, times] of Object.entries(more)) all[name] = (all[name] ?? 0) + times;
};

/** Whether both say the same; `classes` counts how gdb said it. */
function agree(place: Place, ours: Location, length: number, architecture: Architecture, classes: Counts): boolean {
  const { text, operations, pieces } = place;
  const counted = (name: string, isEqual: boolean): boolean => {
    add(classes, name);
    return isEqual;
  };
  const bits = 8 * Math.min(length, 8);
  const isNumber = (wanted: bigint): boolean =>
    ours.kind === 'value' && BigInt.asUintN(bits, integer(ours.bytes)) === BigInt.asUintN(bits, wanted);
  const [, register] = /^a variable in \$(\w+)$/.exec(text) ?? [];
  const [, constant] = /^(?:the constant|a constant with value) (-?\d+)/.exec(text) ?? [];
  const [, bytes] = /^constant bytes:((?: +[0-9a-f]+)+)$/.exec(text) ?? [];
  const [, address] = /static storage at address (0x[0-9a-f]+)$/.exec(text) ?? [];
  const has = (name: RegExp): boolean => operations.some((each) => name.test(each.name));
  // The value at the entry of the function is told by its caller, and this frame has none. It may be that of one piece.
  if (
    has(/entry_value/) ||
    pieces.some((piece) => piece.place?.operations.some(({ name }) => /entry_value/.test(name)))
  ) {
    return counted('entry value', ours.kind === 'none' && /on entry/.test(ours.why));
  }
  if (pieces.length > 0) {
    const own = ours.kind === 'pieces' ? ours.pieces : [];
    const isEqual = pieces.map((piece, index) => {
      const mine = own[index];
      if (mine === undefined || mine.bitSize !== piece.bits || mine.bitOffset !== 0) return false;
      if (piece.place === undefined) return counted('empty piece', mine.location.kind === 'none');
      return agree(piece.place, mine.location, piece.bits / 8, architecture, classes);
    });
    return counted('pieces', text === '' && own.length === pieces.length && isEqual.every(Boolean));
  }
  if (register !== undefined) {
    return counted('register', ours.kind === 'register' && ours.number === registerNumber(architecture, register));
  }
  if (constant !== undefined) return counted('constant', isNumber(BigInt(constant)));
  if (bytes !== undefined) {
    const wanted = bytes.trim().split(/ +/).map((byte) => Number.parseInt(byte, 16)); // biome-ignore format: one line
    return counted('constant bytes', ours.kind === 'value' && wanted.join() === [...ours.bytes].join());
  }
  if (address !== undefined) {
    return counted('static', ours.kind === 'memory' && unsigned(ours.address) === BigInt(address));
  }
  if (text === 'optimized out') return counted('optimised out', ours.kind === 'none' && ours.why === 'optimised out');
  if (has(/^(?:GNU_)?implicit_pointer$/)) return counted('implicit pointer', ours.kind === 'implicitPointer');
  // Words that are not known here are a difference.
  if (operations.length === 0) return false;
  const found = evaluate(operations);
  if (found === undefined) return counted('not evaluated here', ours.kind === 'value' || ours.kind === 'memory');
  if (found.isValue) return counted('computed value', isNumber(found.number));
  return counted('computed address', ours.kind === 'memory' && unsigned(ours.address) === found.number);
}

/** What is compared: at one address, in one kernel. */
interface Subject {
  readonly architecture: Architecture;
  readonly image: SymbolFile;
  readonly abstract: AbstractBlocks;
  readonly pc: bigint;
}

/** Differences in the places of one variable: where each of its ranges begins and ends, and around them. */
async function comparePlaces(
  { image, architecture, pc }: Subject,
  variable: Variable,
  { name, length, where }: Local,
  classes: Counts,
): Promise<readonly string[]> {
  const wrong: string[] = [];
  const at = async (address: bigint, place: Place): Promise<void> => {
    const ours = await image.locate(variable, frameAt(address));
    if (agree(place, ours, length ?? 0, architecture, classes)) return;
    wrong.push(`${name} at ${address.toString(16)}: gdb ${readable(place)}; ours ${readable(ours)}`);
  };
  const nowhere = { text: 'optimized out', operations: [], pieces: [] };
  if ('text' in where) await at(pc, where);
  else {
    const addresses = new Set(where.flatMap(({ start, end }) => [start - 1n, start, end - 1n, end]));
    // The first range that has the address decides, as for gdb; an empty one has none.
    const placeAt = (address: bigint): Place =>
      where.find(({ start, end }) => address >= start && address < end)?.place ?? nowhere;
    for (const address of addresses) await at(address, placeAt(address));
  }
  return wrong;
}

const isStatic = ({ where }: Local): boolean => 'text' in where && /static storage/.test(where.text);

interface Comparison {
  readonly wrong: readonly string[];
  /** Symbols, and the places of those that were compared. */
  readonly symbols: Counts;
  readonly classes: Counts;
}

async function compareScope(subject: Subject, scope: Scope): Promise<Comparison> {
  const { image, abstract, pc } = subject;
  const [symbols, classes]: [Counts, Counts] = [{}, {}];
  const variables = new Map(image.variablesAt(pc, 0).map((each) => [each.name, each]));
  const die = image.inlinesAt(pc)[0]?.die ?? assert.fail();
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (const local of scope.locals) {
    const { name, length, where } = local;
    const place = 'text' in where ? where.text : 'ranges';
    const variable = variables.get(name);
    // gdb lists from the innermost block outwards, and shows the first of a name.
    const isHidden = scope.locals.find((each) => each.name === name) !== local;
    // gdb takes a label whose code is gone for such a variable.
    if (variable === undefined && place === 'optimized out' && scope.labels.has(name)) add(symbols, 'label');
    // gdb goes through the blocks of abstract instances too: what is there was optimised away with its block in this copy,
    // or is a static (`__already_done`).
    else if (variable === undefined && /^optimized|static/.test(place) && abstract.haveAlone(name, die, pc)) {
      add(symbols, `of an abstract block, ${place.startsWith('opt') ? 'optimised out' : 'static'}`);
    } else if (variable === undefined) wrong.push(`no ${name}`);
    else if (isHidden) add(symbols, 'hidden by another of its name');
    else {
      seen.add(name);
      add(symbols, 'compared');
      if (length !== undefined && length !== sizeOf(variable.type)) {
        wrong.push(`${name} has ${sizeOf(variable.type)} bytes, for gdb ${length}`);
      }
      const places: Counts = {};
      const differences = await comparePlaces(subject, variable, local, places);
      // Statics of one name in several blocks that kept no code: none of them is nearer. gdb shows the first, this the last.
      const last = scope.locals.findLast((each) => each.name === name) ?? local;
      const isOneOf = differences.length > 0 && last !== local && isStatic(local) && isStatic(last);
      if (isOneOf) add(symbols, 'the last of several statics');
      wrong.push(...(isOneOf ? await comparePlaces(subject, variable, last, places) : differences));
      sum(classes, places);
    }
  }
  for (const name of scope.isCut ? [] : variables.keys()) if (!seen.has(name)) wrong.push(`gdb has no ${name}`);
  return { wrong, symbols, classes };
}

/** The bytes in front of a function that are its own: its entry in DWARF begins behind them. */
const isInFront = (image: SymbolFile, pc: bigint): boolean => {
  const outermost = image.inlinesAt(pc).at(-1);
  return outermost?.kind === 'function' && pc < outermost.entry && outermost.entry - pc <= 8n;
};

describe('locals, against gdb', () => {
  for (const architecture of architectures) {
    test(`${count} functions of ${architecture}, ${inside} addresses in each`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const answers = await kernel.answer(`gdb-scopes-${count}-${inside}`, () => askGdb(kernel, architecture));
      const scopes = scopesOf(answers);
      assert.equal(scopes.length, count * (1 + inside));
      const image = kernel.open();
      const abstract = new AbstractBlocks(kernel.vmlinux);
      const classes: Counts = {};
      const symbols: Counts = {};
      const places = { functions: 0, inside: 0, severalPlaces: 0, assembly: 0, inFront: 0, cut: 0 };
      const unexplained: string[] = [];
      try {
        for (const scope of scopes) {
          const isKnown = (pc: bigint): boolean => image.inlinesAt(pc).length > 0;
          const unknown = scope.places.filter((pc) => !isKnown(pc));
          // What ftrace patches in front of a function is none for gdb.
          const more = scope.elsewhere.filter((pc) => isKnown(pc) && !isInFront(image, pc));
          if (unknown.length > 0) unexplained.push(`${scope.question}: no function at ${readable(unknown)}`);
          if (more.length > 0) unexplained.push(`${scope.question}: for gdb no function at ${readable(more)}`);
          // There gdb goes on to what is outside of all functions, which is nobody's local.
          if (scope.places.length === 0) {
            if (scope.elsewhere.some(isKnown)) places.inFront++;
            else places.assembly++;
            continue;
          }
          const described = scope.places.filter(isKnown);
          if (described.length > 1) places.severalPlaces++;
          if (scope.question.startsWith('*')) places.inside++;
          else places.functions++;
          if (scope.isCut) places.cut++;
          let best: Comparison | undefined;
          for (const pc of described) {
            const found = await compareScope({ architecture, image, abstract, pc }, scope);
            if (best === undefined || found.wrong.length < best.wrong.length) best = found;
            if (best.wrong.length === 0) break;
          }
          sum(symbols, best?.symbols ?? {});
          sum(classes, best?.classes ?? {});
          unexplained.push(...(best?.wrong ?? []).map((text) => `${scope.question}: ${text}`));
        }
      } finally {
        image.close();
        abstract.close();
      }
      context.diagnostic(JSON.stringify({ ...places, symbols, classes }));
      assert.deepEqual(unexplained, []);
      const number = (name: string): number => symbols[name] ?? classes[name] ?? 0;
      assert.ok(places.functions > 0.9 * count && places.inside > 0.9 * count * inside, JSON.stringify(places));
      assert.ok(number('compared') > 10 * count && number('register') > 30 * count, 'enough is compared');
      for (const name of ['entry value', 'optimised out', 'constant', 'computed value', 'computed address', 'pieces']) {
        assert.ok(number(name) > 50, name);
      }
      // What is explained stays what is rare.
      const explained = Object.keys(symbols).filter((name) => name !== 'compared' && !name.startsWith('hidden'));
      assert.ok(explained.reduce((all, name) => all + number(name), 0) < 0.06 * number('compared'), 'explained');
      assert.ok(number('not evaluated here') < 0.01 * number('register'), 'not evaluated here');
      assert.ok(
        places.cut < 0.01 * scopes.length && places.assembly + places.inFront < 0.1 * scopes.length,
        'left out',
      );
    });

    test(`addresses of ${statics} variables of ${architecture}`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const text = await kernel.answer(`gdb-addresses-${statics}`, async () => {
        const chosen = await someSymbols(kernel, 'OBJECT', statics);
        const commands = chosen.map(({ name }) => `info address ${name}`);
        const words = ['set width 0', ...commands].flatMap((each) => ['-ex', each]);
        return outputOf('gdb-multiarch', [
          '-nx',
          '-batch',
          '-iex',
          'set debuginfod enabled off',
          ...words,
          kernel.vmlinux,
        ]);
      });
      const image = kernel.open();
      const classes: Counts = {};
      const unexplained: string[] = [];
      try {
        for (const line of text.trim().split('\n')) {
          const [, name = '', words = ''] = /^Symbol "(\w+)" is (.*)\.$/.exec(line) ?? [];
          const [, address] = /^(?:static storage )?at (?:address )?(0x[0-9a-f]+)/.exec(words) ?? [];
          const variable = image.variableNamed(name);
          const ours = variable && (await image.locate(variable, frameAt(0n)));
          const symbols = image.symbolsNamed(name).map((each) => each.address);
          const isSymbol = symbols.length === 1 && symbols[0] === BigInt(address ?? -1);
          if (/^static storage/.test(words) && isSymbol && ours?.kind === 'memory' && ours.address === symbols[0]) {
            add(classes, 'static');
          }
          // A declaration without a definition in C (`level2_kernel_pgt`): its place is its symbol's, as for gdb.
          else if (/^static storage/.test(words) && isSymbol && ours?.kind === 'none') add(classes, 'declared only');
          // Assembly, in C files too (`__BTF_ID__…`): a symbol is all there is.
          else if (/without debugging$/.test(words) && isSymbol && ours === undefined) add(classes, 'symbol only');
          else unexplained.push(`${line}: ours ${readable(ours)}`);
        }
      } finally {
        image.close();
      }
      context.diagnostic(JSON.stringify(classes));
      assert.deepEqual(unexplained, []);
      assert.ok((classes.static ?? 0) > 0.9 * statics, JSON.stringify(classes));
    });
  }
});
