// Line number programs of real kernels: every row as readelf decodes it, and where breakpoints on lines go.
import assert from 'node:assert/strict';
import { basename, posix } from 'node:path';
import { describe, test } from 'node:test';
import { type LineHeader, lineHeaders } from '../../src/symbols/dwarf/line.ts';
import { DwarfSections } from '../../src/symbols/dwarf/sections.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { architectures, Kernel, seeded } from './kernel.ts';
import { decoded, programsOf, type Row, rowsOf } from './lineRows.ts';

const units = 50;
const places = 300;
/** Lines of headers have tens of thousands of places, which take minutes to look at and show no more. */
const addressLimit = 1000;

/** `@NUMBER` and the rows of programs that are chosen with equal chance (reservoir sampling). */
async function somePrograms(kernel: Kernel): Promise<string> {
  const random = seeded(23);
  const chosen: string[] = [];
  let seen = 0;
  for await (const program of programsOf(kernel.vmlinux)) {
    const place = seen < units ? seen : random(seen + 1);
    if (place < units) chosen[place] = [`@${seen}`, ...program].join('\n');
    seen++;
  }
  return chosen.join('\n');
}

/** Headers of trace points include themselves as `./NAME`: one file by two paths. */
const placeOf = ({ path = '', line }: Row): string => `${posix.normalize(path)}:${line}`;
const shortPlaceOf = ({ file, line }: Row): string => `${file}:${line}`;

/** Places of statements, chosen among those of the programs of `sample`, and where they have code in the kernel: `@PLACE`,
 *  then the addresses, those in brackets where the row may be of another file of the same name. */
async function statementsOf(kernel: Kernel, sample: string): Promise<string> {
  const random = seeded(29);
  const candidates = [...rowsOf(sample.split('\n'))].filter(
    ({ path, line, isStatement }) => path !== undefined && isStatement && line !== '0',
  );
  const chosen = new Map<string, string[]>();
  while (chosen.size < places) chosen.set(placeOf(candidates[random(candidates.length)] as Row), []);
  const short = new Map<string, string[][]>();
  const files = new Set([...chosen.keys()].map((place) => basename(place).replace(/:\d+$/, '')));
  for (const [place, addresses] of chosen)
    short.set(basename(place), [...(short.get(basename(place)) ?? []), addresses]);
  for await (const program of programsOf(kernel.vmlinux)) {
    for (const row of rowsOf(program, (file) => files.has(file))) {
      if (!row.isStatement) continue;
      if (row.path !== undefined) chosen.get(placeOf(row))?.push(row.address);
      else for (const addresses of short.get(shortPlaceOf(row)) ?? []) addresses.push(`(${row.address})`);
    }
  }
  return [...chosen].map(([place, addresses]) => [`@${place}`, ...new Set(addresses)].join(' ')).join('\n');
}

describe('line number programs, against readelf', () => {
  for (const architecture of architectures) {
    test(`every row of ${units} units of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const sample = await kernel.answer(`readelf-lines-${units}`, () => somePrograms(kernel));
      const elf = new ElfFile(kernel.vmlinux);
      try {
        const sections = new DwarfSections(elf);
        const headers = [...lineHeaders(sections)];
        const programs = sample.split(/^@/m).slice(1);
        assert.equal(programs.length, units);
        let compared = 0;
        for (const program of programs) {
          const [number = '', ...lines] = program.trimEnd().split('\n');
          const wanted = [...rowsOf(lines)];
          const ours = decoded(sections, headers[Number(number)] as LineHeader);
          assert.equal(ours.length, wanted.length, `rows of program ${number}`);
          for (const [index, row] of wanted.entries()) {
            const { path, ...rest } = ours[index] as Row;
            const mine = { path: row.path === undefined ? undefined : path, ...rest };
            assert.deepEqual(mine, row, `row ${index} of program ${number}`);
          }
          compared += wanted.length;
        }
        assert.ok(compared > 1000 * units, `${compared} rows`);
      } finally {
        elf.close();
      }
    });

    test(`breakpoints on ${places} lines of ${architecture}`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const sample = await kernel.answer(`readelf-lines-${units}`, () => somePrograms(kernel));
      const statements = await kernel.answer(`readelf-places-${places}`, () => statementsOf(kernel, sample));
      const image = kernel.open();
      /** The function, or the copy of an inlined one, that the address is in. */
      const scopeAt = (address: bigint): number | bigint | undefined => {
        const [innermost] = image.inlinesAt(address);
        return innermost?.die ?? image.symbolAt(address)?.symbol.address;
      };
      const count = { places: 0, addresses: 0, large: 0, padding: 0 };
      try {
        for (const text of statements.split('\n')) {
          const [place = '', ...addresses] = text.slice(1).split(' ');
          const [, file = '', line = ''] = /^(.*):(\d+)$/.exec(place) ?? [];
          const theirs = new Set(addresses.filter((each) => !each.startsWith('(')).map((each) => BigInt(`0x${each}`)));
          const perhaps = new Set(addresses.map((each) => BigInt(`0x${each.replace(/[()]/g, '')}`)));
          if (theirs.size > addressLimit) {
            count.large++;
            continue;
          }
          const ours = image.locationsOf(file, Number(line));
          const covered = new Set(ours.map(({ address }) => scopeAt(address)));
          for (const found of ours) {
            assert.equal(found.line, Number(line), place);
            assert.ok(perhaps.has(found.address), `${place}: 0x${found.address.toString(16)} is no statement of it`);
          }
          for (const address of theirs) {
            const scope = scopeAt(address);
            // Behind the last instruction of a function the compiler pads, on the line of what comes before.
            if (scope === undefined) count.padding++;
            else assert.ok(covered.has(scope), `${place}: nothing in the function at 0x${address.toString(16)}`);
          }
          assert.equal(covered.size, ours.length, `${place}: one in each function and copy`);
          count.places++;
          count.addresses += ours.length;
        }
      } finally {
        image.close();
      }
      context.diagnostic(JSON.stringify(count));
      assert.ok(count.places > 0.5 * places && count.padding < 0.01 * count.addresses, JSON.stringify(count));
    });
  }
});
