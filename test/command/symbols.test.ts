import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '../../src/command/run.ts';
import { at, buildKernel } from '../support/dwarfKernel.ts';
import { temporaryFile } from '../support/elfBuilder.ts';

const run = async (...words: string[]) => {
  let out = '';
  let error = '';
  const status = await runCommand(words, '1.2.3', { out: (text) => (out += text), error: (text) => (error += text) });
  return { status, out, error };
};
const hex = (offset: number): string => `0x${at(offset).toString(16)}`;
const image = (context: TestContext): string => temporaryFile(context, buildKernel());

test('line', async (context) => {
  const path = image(context);
  assert.deepEqual(await run('symbols', path, 'line', 'mm.h:100'), {
    status: 0,
    out:
      `Line 100 of "include/linux/mm.h" starts at address ${hex(0x18)} <start_kernel+24>\n` +
      `Line 100 of "include/linux/mm.h" starts at address ${hex(0x28)} <start_kernel+40>\n`,
    error: '',
  });
  const { out } = await run('symbols', '--json', path, 'line', 'init/main.c:12');
  assert.deepEqual(
    JSON.parse(out),
    [{ address: hex(0x14), function: 'start_kernel', file: 'init/main.c', line: 13 }],
    'the next line that has code',
  );
  const none = await run('symbols', path, 'line', 'init/main.c:1000');
  assert.equal(none.status, 1);
  assert.match(none.error, /^No code from line 1000 of init\/main\.c on in .+\n$/);
});

test('addr', async (context) => {
  const path = image(context);
  const { out } = await run('symbols', path, 'addr', hex(0x1c), hex(0x44).slice(2), hex(0x74), '0x10', '--json');
  assert.deepEqual(JSON.parse(out), [
    {
      address: hex(0x1c),
      function: 'get_page',
      offset: 0x1c,
      file: 'include/linux/mm.h',
      line: 100,
      inlined: [{ function: 'start_kernel', file: 'init/main.c', line: null }],
    },
    { address: hex(0x44), function: 'helper', offset: 4, file: 'init/main.c', line: 20, inlined: [] },
    { address: hex(0x74), function: 'bare', offset: 4, file: null, line: null, inlined: [] },
    { address: '0x10', function: null, offset: null, file: null, line: null, inlined: [] },
  ]);
  assert.equal(
    (await run('symbols', path, 'addr', hex(0x1c), hex(0x44), '10')).out,
    `${hex(0x1c)} is in get_page (include/linux/mm.h:100).\n` +
      '  inlined by start_kernel+28 (init/main.c)\n' +
      `${hex(0x44)} is in helper+4 (init/main.c:20).\n` +
      'No symbol matches 0x10.\n',
  );
});

test('function', async (context) => {
  const path = image(context);
  assert.equal(
    (await run('symbols', path, 'function', 'get_page')).out,
    `get_page at ${hex(0x18)}: file include/linux/mm.h, line 100.\n` +
      `get_page at ${hex(0x2c)}: file include/linux/mm.h, line 100.\n`,
  );
  assert.deepEqual(JSON.parse((await run('symbols', path, 'function', 'bare', '--json')).out), [
    { address: hex(0x70), function: 'bare', file: null, line: null },
  ]);
  assert.equal((await run('symbols', path, 'function', 'start_kernel')).status, 0);
  const none = await run('symbols', path, 'function', 'nowhere');
  assert.equal(none.status, 1);
  assert.match(none.error, /^There is no function `nowhere` in /);
});

test('index', async (context) => {
  const path = image(context);
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = dirname(path);
  try {
    const built = await run('symbols', '--json', path, 'index');
    const { path: index, built: isNew } = JSON.parse(built.out);
    assert.ok(isNew);
    assert.ok(index.startsWith(`${process.env.XDG_CACHE_HOME}/kvm-debug/symbols/`));
    assert.ok(statSync(index).size > 0);
    assert.deepEqual(await run('symbols', path, 'index'), {
      status: 0,
      out: `The index of names is ${index}, and was there already.\n`,
      error: '',
    });
    writeFileSync(index, 'damaged');
    assert.equal((await run('symbols', path, 'index')).out, `The index of names is ${index}.\n`);
  } finally {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
  }
});

test('what is wrong with a file or a command line', async (context) => {
  const path = image(context);
  const missing = await run('symbols', '/nonexistent/vmlinux', 'function', 'f');
  assert.deepEqual([missing.status, missing.out], [1, '']);
  assert.match(missing.error, /^Cannot open the symbol file \/nonexistent\/vmlinux: there is no such file\.\n$/);
  for (const words of [
    [],
    ['nonsense'],
    ['symbols'],
    ['symbols', path],
    ['symbols', path, 'nonsense', 'x'],
    ['symbols', path, 'function'],
    ['symbols', path, 'function', 'a', 'b'],
    ['symbols', path, 'index', 'a'],
    ['symbols', path, 'line', 'main.c'],
    ['symbols', path, 'line', 'main.c:0'],
    ['symbols', path, 'line', 'main.c:99999999999999999999'],
    ['symbols', path, 'addr', 'start_kernel'],
    ['symbols', path, 'addr', '0x11112222333344445'],
    ['symbols', path, 'function', 'f', '--nonsense'],
  ]) {
    const { status, out, error } = await run(...words);
    assert.deepEqual([status, out], [2, ''], words.join(' '));
    assert.match(error, /^[^\n"]+\n\nUsage: kvm-debug symbols /, words.join(' '));
  }
  assert.deepEqual(await run('--version'), { status: 0, out: '1.2.3\n', error: '' });
  assert.match((await run('--help')).out, /^Usage: .*\n {2}line FILE:LINE /s);
});
