// Where a breakpoint on a function goes, against gdb. Each difference belongs to a class that is named here.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { breakOn, placesOf } from './gdbBreakpoints.ts';
import { architectures, Kernel, linesOf, seeded } from './kernel.ts';

const count = 1000;

async function someFunctions(kernel: Kernel): Promise<readonly string[]> {
  const names = new Set<string>();
  for await (const line of linesOf('readelf', ['-sW', kernel.vmlinux])) {
    const [, , size, type, , , section, name = ''] = line.trim().split(/\s+/);
    if (type === 'FUNC' && section !== 'UND' && section !== 'ABS' && Number(size) > 0) names.add(name);
  }
  const all = [...names];
  const random = seeded(17);
  const chosen = new Set<string>();
  while (chosen.size < count) chosen.add(all[random(all.length)] ?? '');
  return [...chosen];
}

const sorted = (list: Iterable<bigint>): bigint[] => [...new Set(list)].sort((a, b) => (a < b ? -1 : 1));

describe('breakpoints on functions, against gdb', () => {
  for (const architecture of architectures) {
    test(`${count} of ${architecture}`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const theirs = placesOf(
        await kernel.answer(`gdb-breakpoints-${count}`, async () =>
          breakOn(kernel.vmlinux, await someFunctions(kernel)),
        ),
      );
      assert.equal(theirs.size, count);
      const image = kernel.open();
      const classes = { equal: 0, patchable: 0, clone: 0, entry: 0 };
      const unexplained: string[] = [];
      try {
        for (const [name, places] of theirs) {
          const ours = sorted(image.functionBreakpoint(name).map(({ address }) => address));
          const symbols = new Set(image.symbolsNamed(name).map(({ address }) => address));
          const equal = (mine: readonly bigint[], other: readonly bigint[]): boolean => mine.join() === other.join();
          const gdb = sorted(places);
          // A function whose DWARF begins behind its symbol: gdb 13 takes symbol and DWARF for two functions, and stops
          // twice, first among the instructions that ftrace rewrites.
          const once = gdb.filter((each) => !(symbols.has(each) && gdb.includes(each + 8n)));
          if (equal(ours, gdb)) classes.equal++;
          else if (equal(ours, once)) classes.patchable++;
          // The clones that gcc makes have a dot in their name, which is no C name: gdb knows them by their symbol only.
          else if (/\./.test(name) && ours.length > 0) classes.clone++;
          // An inlined copy in several ranges: DW_AT_entry_pc says where it is entered, gdb 13 takes the first range, which
          // may be where a copy of the function within this copy is entered.
          else if (areCopies(ours, once, image) && areCopies(once, ours, image)) classes.entry++;
          else unexplained.push(`${name}: ours ${hexOf(ours)}; gdb ${hexOf(gdb)}`);
        }
      } finally {
        image.close();
      }
      context.diagnostic(JSON.stringify(classes));
      assert.deepEqual(unexplained, []);
    });
  }
});

const hexOf = (addresses: readonly bigint[]): string => addresses.map((each) => each.toString(16)).join(' ');

/** Whether each of the `places` is in a function, or a copy of an inlined one, that one of the `others` is in too. */
const areCopies = (
  places: readonly bigint[],
  others: readonly bigint[],
  image: { inlinesAt(address: bigint): readonly { readonly die: number }[] },
): boolean => {
  const known = new Set(others.flatMap((other) => image.inlinesAt(other).map(({ die }) => die)));
  return places.every((place) => others.includes(place) || image.inlinesAt(place).some(({ die }) => known.has(die)));
};
