import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aarch64 } from '../../src/arch/aarch64/aarch64.ts';
import { Gva } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import { Disassembler } from '../../src/debugger/disassembler.ts';
import { SourcePaths } from '../../src/debugger/sourcePaths.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { addressOf, fakeSymbols } from '../support/fakeKernel.ts';

const located = (file: string, directory = '/build/linux') => ({ file, directory, line: 1, column: 1 });

test('paths: by the source map, by where breakpoints bound, as compiled', () => {
  const mapped = new SourcePaths({ '/build': '/b', '/build/linux': '/home/u/linux/' });
  assert.equal(mapped.local(located('init/main.c')), '/home/u/linux/init/main.c');
  assert.equal(mapped.local(located('/build/other/x.c')), '/b/other/x.c');
  assert.equal(mapped.local(located('/usr/include/x.h')), '/usr/include/x.h');
  assert.equal(mapped.local(located('../lib/x.c', '')), '../lib/x.c');
  assert.equal(mapped.local(located('init/main.c', 'debian/build')), 'init/main.c');
  const root = new URL('../..', import.meta.url).pathname;
  const tree = new SourcePaths({ '/anything': root });
  assert.equal(tree.local(located('src/adapter.ts', 'debian/build')), `${root}src/adapter.ts`);
  const symbols = new KernelSymbols(fakeSymbols);
  assert.equal(mapped.locations(symbols, '/home/u/linux/init/main.c', 11)[0]?.address, addressOf('start_kernel', 2));

  const plain = new SourcePaths();
  assert.equal(plain.local(located('lib/helper.c')), '/build/linux/lib/helper.c');
  for (const path of ['/elsewhere/tree/lib/helper.c', 'lib/helper.c', 'helper.c']) {
    assert.equal(plain.locations(symbols, path, 21).length, 1, path);
  }
  // The client's own name for the file from now on.
  assert.equal(plain.local(located('lib/helper.c')), '/elsewhere/tree/lib/helper.c');
  assert.equal(plain.locations(symbols, '/elsewhere/helper.c', 21).length, 0);
});

test('a source is found below the root by its end, and beside another of its tree', () => {
  const root = new URL('../..', import.meta.url).pathname;
  const below = new SourcePaths({}, root);
  assert.equal(below.find(located('/build/x/src/adapter.ts')), `${root}src/adapter.ts`);
  assert.equal(below.find(located('/build/x/src/nowhere.ts')), undefined);
  assert.equal(below.local(located('/build/x/src/nowhere.ts')), '/build/x/src/nowhere.ts');
  // By its name alone it could be any.
  assert.equal(below.find(located('/package.json')), undefined);

  const symbols = new KernelSymbols(fakeSymbols);
  for (const [tree, there] of [
    ['/not/on/this/machine', true],
    [root.replace(/\/$/, ''), false],
  ] as const) {
    const others = new SourcePaths();
    assert.equal(others.find(located('mm/slub.c')), undefined);
    others.locations(symbols, `${tree}/lib/helper.c`, 21);
    assert.equal(others.find(located('lib/helper.c')), `${tree}/lib/helper.c`);
    assert.equal(others.find(located('mm/slub.c')), there ? `${tree}/mm/slub.c` : undefined, tree);
  }
});

test('the bias is added and taken away in one place', () => {
  const symbols = new KernelSymbols(fakeSymbols);
  symbols.bias = 0x20_0000n;
  const address = addressOf('helper') + symbols.bias;
  assert.equal(symbols.named('helper')[0]?.address, address);
  assert.equal(symbols.describe(address + 4n), 'helper+0x4');
  assert.equal(symbols.lineAt(address)?.start, address);
  assert.equal(symbols.functionBreakpoint('helper')[0]?.address, addressOf('helper', 2) + symbols.bias);
  assert.equal(symbols.describe(addressOf('_start') - 4n), undefined);
});

test('disassembly: exactly as many rows as asked for, also where nothing is', async () => {
  const words = [0xd503201f, 0x94000004, 0xffffffff, 0xd65f03c0];
  const start = 0xffff_8000_0801_0ff8n;
  const memory = {
    // The second page is not mapped.
    read: async (address: Gva, length: number) => {
      if (address >> 12n !== start >> 12n) throw new MemoryFault('virtual', address, 'not mapped');
      return Uint8Array.from({ length }, (_, n) => {
        const at = Number(address - start) + n;
        return at < 0 ? 0 : ((words[at >> 2] ?? 0) >>> (8 * (at & 3))) & 0xff;
      });
    },
    write: async () => undefined,
  };
  const disassembler = new Disassembler(aarch64, (address) => (address === start + 20n ? 'printk+0x10' : undefined));
  const rows = await disassembler.rows(memory, Gva(start), -1, 5);
  assert.deepEqual(
    rows.map(({ text, valid }) => [text, valid]),
    [
      ['.inst 0x00000000', false],
      ['nop', true],
      ['bl 0xffff80000801100c <printk+0x10>', true],
      ['??', false],
      ['??', false],
    ],
  );
  assert.equal((await disassembler.rows(memory, Gva(0n), -100, 200)).length, 200);
});
