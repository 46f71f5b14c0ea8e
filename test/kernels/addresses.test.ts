// Functions, lines and inlined calls of random addresses, against three programs: what two of them say is right.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Architecture, architectures, Kernel, linesOf, seeded } from './kernel.ts';
import { binutils, chainOf, elfutils, type Frame, type Frames, framesOf, llvm, majority } from './symbolizers.ts';

const count = 10_000;

interface Functions {
  /** By address: a symbol that has a size. */
  readonly sizes: ReadonlyMap<bigint, number>;
  readonly namesAt: ReadonlyMap<bigint, ReadonlySet<string>>;
}

async function functionsOf(kernel: Kernel): Promise<Functions> {
  const sizes = new Map<bigint, number>();
  const namesAt = new Map<bigint, Set<string>>();
  for await (const line of linesOf('readelf', ['-sW', kernel.vmlinux])) {
    const [, value, size, type, , , section, name = ''] = line.trim().split(/\s+/);
    if (type !== 'FUNC' || section === 'UND' || section === 'ABS' || Number(size) === 0) continue;
    const address = BigInt(`0x${value}`);
    sizes.set(address, Number(size));
    namesAt.set(address, (namesAt.get(address) ?? new Set()).add(name));
  }
  return { sizes, namesAt };
}

/** Anywhere in functions; one in ten is the first byte of one, one in ten the last. Ascending: neighbours share a unit. */
function someAddresses({ sizes }: Functions): readonly string[] {
  const random = seeded(11);
  const starts = [...sizes.keys()];
  const chosen = new Set<bigint>();
  while (chosen.size < count) {
    const start = starts[random(starts.length)] ?? 0n;
    const size = sizes.get(start) ?? 1;
    const place = random(10);
    chosen.add(start + BigInt(place === 0 ? 0 : place === 1 ? size - 1 : random(size)));
  }
  return [...chosen].sort((a, b) => (a < b ? -1 : 1)).map((address) => `0x${address.toString(16)}`);
}

async function answers(kernel: Kernel, architecture: Architecture, addresses: readonly string[]): Promise<Frames[]> {
  const question = { path: kernel.vmlinux, architecture, addresses };
  const programs = { binutils, elfutils, llvm };
  const all: Frames[] = [];
  for (const [name, ask] of Object.entries(programs)) {
    const text = await kernel.answer(`${name}-addresses-${count}`, async () =>
      JSON.stringify([...(await ask(question))]),
    );
    all.push(new Map(JSON.parse(text) as [string, Frame[]][]));
  }
  return all;
}

describe('addresses, against binutils, elfutils and LLVM', () => {
  for (const architecture of architectures) {
    test(`${count} of ${architecture}`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const functions = await functionsOf(kernel);
      const addresses = someAddresses(functions);
      const theirs = await answers(kernel, architecture, addresses);
      const image = kernel.open();
      const classes = { equal: 0, undecided: 0, alias: 0, patchable: 0 };
      const unexplained: string[] = [];
      try {
        const ours = await framesOf(image, addresses);
        for (const [address, frames] of ours) {
          const mine = chainOf(frames);
          const [a, b, c] = theirs.map((each) => chainOf(each.get(address) ?? []));
          const decided = majority([a, b, c]);
          const start = image.symbolAt(BigInt(address))?.symbol.address ?? 0n;
          if (decided === mine) classes.equal++;
          else if (decided === undefined) classes.undecided++;
          // Symbols of one address, most of them assembly (SYM_FUNC_ALIAS): any of the names is right.
          else if (isRenamed(decided, mine, functions.namesAt.get(start))) classes.alias++;
          // What is in front of a function that ftrace patches belongs to no unit (-fpatchable-function-entry). The programs
          // differ in whether they go on with the row of what comes before.
          else if (BigInt(address) - start < 8n && (mine.endsWith(' ??') || decided.endsWith(' ??')))
            classes.patchable++;
          else unexplained.push(`${address}\n  ours ${mine}\n  a ${a}\n  b ${b}\n  c ${c}`);
        }
      } finally {
        image.close();
      }
      context.diagnostic(JSON.stringify(classes));
      assert.deepEqual(unexplained, []);
      assert.ok(classes.equal > 0.995 * count, JSON.stringify(classes));
    });
  }
});

const isRenamed = (theirs: string, ours: string, names: ReadonlySet<string> = new Set()): boolean => {
  const split = (text: string): [string, string] => {
    const space = text.indexOf(' ');
    return [text.slice(0, space), text.slice(space)];
  };
  const [[theirName, theirPlace], [ourName, ourPlace]] = [split(theirs), split(ours)];
  return theirPlace === ourPlace && names.has(theirName) && names.has(ourName);
};
