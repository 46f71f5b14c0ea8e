// A kernel module: a relocatable file whose addresses are offsets in sections until somebody loads it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { labCache } from '../../lab/cache.ts';
import { addressSubcommand } from '../../src/command/address.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { sizeOf, stripped } from '../../src/symbols/types.ts';
import { contents, type FunctionSymbol } from './functionSymbols.ts';
import { architectures, Kernel, outputOf, seeded } from './kernel.ts';
import { binutils, elfutils } from './symbolizers.ts';

const perSection = 500;
const codeSections = ['.text', '.init.text', '.exit.text', '.text.unlikely'];

const lastComponents = (path: string): string =>
  path
    .replaceAll(/\/(\.?\/)+/g, '/')
    .split('/')
    .slice(-2)
    .join('/');
const baseNameOf = (name: string): string => name.replace(/(\.(part|isra|constprop)\.\d+|\.cold)+$/, '');

for (const architecture of architectures) {
  describe(`xfs.ko of ${architecture}`, () => {
    test('functions and lines of each section, against binutils and elfutils', async () => {
      const path = (await Kernel.of(architecture)).module('xfs');
      const { functions, sections } = await contents(path);
      const module = SymbolFile.open(path);
      const random = seeded(3);
      let traced = 0;
      try {
        for (const section of codeSections) {
          const inside = functions.filter((each) => each.section === sections.get(section));
          assert.ok(inside.length > 0, section);
          const base = module.sections.find(({ name }) => name === section)?.address ?? 0n;
          const offsets = Array.from({ length: perSection }, () => {
            const { value, size } = inside[random(inside.length)] ?? { value: 0n, size: 1 };
            return value + BigInt(random(size));
          });
          const question = {
            path,
            architecture,
            section,
            addresses: offsets.map((offset) => `0x${offset.toString(16)}`),
          };
          const [theirs, lines] = await Promise.all([binutils(question), elfutils(question)]);
          const addresses = offsets.map((offset) => `0x${(base + offset).toString(16)}`);
          const ours = (await addressSubcommand.run(module, addresses)).json() as readonly {
            readonly function: string;
            readonly file: string | null;
            readonly line: number | null;
            readonly inlined: readonly { readonly function: string; readonly line: number | null }[];
          }[];
          for (const [index, answer] of ours.entries()) {
            const at = question.addresses[index] ?? '';
            const frames = theirs.get(at) ?? [];
            const chain = [answer, ...answer.inlined].map(({ function: name, line }) => [baseNameOf(name), line ?? 0]);
            const where = `${section} ${at}`;
            // In front of a patchable function: see addresses.test.ts.
            if (answer.line === null && module.symbolAt(base + (offsets[index] ?? 0n))) continue;
            assert.deepEqual(
              chain,
              frames.map(({ function: name, line }) => [baseNameOf(name), line]),
              where,
            );
            // binutils names the unit's file for trace points, whose functions are in a header that includes itself.
            const [row] = lines.get(at) ?? [];
            assert.equal(lastComponents(answer.file ?? ''), lastComponents(row?.file ?? ''), where);
            if (frames[0]?.file.endsWith('/xfs_trace.c') === true) traced++;
          }
        }
        assert.ok(traced > 0);
      } finally {
        module.close();
      }
    });

    test('symbols have the places that readelf gives, and breakpoints are in their functions', async () => {
      const path = (await Kernel.of(architecture)).module('xfs');
      const { functions, sections } = await contents(path);
      const nameOf = new Map([...sections].map(([name, number]) => [number, name]));
      const module = SymbolFile.open(path, { cacheFolder: labCache('symbols') });
      module.names?.build();
      try {
        const base = new Map(module.sections.map(({ name, address }) => [name, address]));
        const places = new Map<string, bigint[]>();
        for (const { name, section, value } of functions) {
          const address = (base.get(nameOf.get(section) ?? '') ?? 0n) + value;
          places.set(name, [...(places.get(name) ?? []), address]);
        }
        for (const [name, addresses] of places) {
          const ours = module.symbolsNamed(name).filter(({ kind }) => kind === 'function');
          const sorted = (list: readonly bigint[]): string[] => list.map((each) => each.toString(16)).sort();
          assert.deepEqual(sorted(ours.map(({ address }) => address)), sorted(addresses), name);
        }
        const random = seeded(5);
        for (let round = 0; round < 200; round++) {
          const { name, section, value, size } = functions[random(functions.length)] as FunctionSymbol;
          const start = (base.get(nameOf.get(section) ?? '') ?? 0n) + value;
          const found = module.functionBreakpoint(name);
          const own = found.filter(({ address }) => address >= start && address < start + BigInt(size));
          // Where a part of it was inlined into the rest there are two.
          assert.ok(own.length > 0, `${name}: ${found.map(({ address }) => address.toString(16)).join(' ')}`);
        }
      } finally {
        module.close();
      }
    });

    test('structs, against pahole', async () => {
      const path = (await Kernel.of(architecture)).module('xfs');
      const module = SymbolFile.open(path, { cacheFolder: labCache('symbols') });
      module.names?.build();
      try {
        let members = 0;
        const bodies = (await outputOf('pahole', [path])).split(/^(?=(?:struct|union) \w+ \{)/m);
        for (const body of bodies.filter((text) => /^struct xfs_/.test(text))) {
          const [, name = ''] = /^struct (\w+) \{/.exec(body) ?? [];
          const [, size = '-1'] = /\/\* size: (\d+),/.exec(body) ?? [];
          const type = module.typeNamed('struct', name);
          const real = type && stripped(type);
          assert.ok(type !== undefined && real !== undefined && 'members' in real, name);
          assert.equal(sizeOf(type), Number(size), name);
          const ours = new Map(real.members.map((member) => [member.name, member]));
          const theirs = body.matchAll(
            /^\t[^\t}].*?(\w+)(?:\[.*\])?(?: __attribute__\(.*\))?; +\/\* +(\d+) +(\d+) \*\//gm,
          );
          for (const [, member = '', offset, bytes] of theirs) {
            const found = ours.get(member);
            const place = [found?.offset, found && sizeOf(found.type)];
            assert.deepEqual(place, [Number(offset), Number(bytes)], `${name}.${member}`);
            members++;
          }
        }
        assert.ok(members > 1000, `${members} members`);
      } finally {
        module.close();
      }
    });
  });
}
