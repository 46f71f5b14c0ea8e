// Pointers that were optimised away (DWARF 5, 2.6.1.1.4) are followed to what they pointed to, wherever that is.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { temporaryFile } from '../support/elfBuilder.ts';
import { data, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry } from '../support/fakeSession.ts';
import { implicitPointerImage } from '../support/implicitPointers.ts';

/** Stopped in the function with such pointers: x3 is 3, x4 is 4 and so on; memory holds {10, 11, 0x1000}. */
async function stopped(context: TestContext) {
  const path = temporaryFile(context, implicitPointerImage());
  const target = fakeGuest(1, { mapped: true });
  for (let n = 3; n < 7; n++) target.set(0, `x${n}`, BigInt(n));
  target.load(data, Uint8Array.of(10, 0, 0, 0, 11, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0));
  const { client } = await atEntry({ target, symbolFile: SymbolFile.open(path, { cacheFolder: '/proc/none' }) });
  const { stackFrames } = await client.request('stackTrace', { threadId: 1, levels: 10 });
  // The function itself; in front of it is what was inlined.
  const frameId: number = stackFrames.find(({ name }: { name: string }) => name.includes('start_kernel')).id;
  const evaluate = (expression: string, purpose = 'watch') =>
    client.request('evaluate', { expression, frameId, context: purpose });
  const show = async (expression: string): Promise<string> => (await evaluate(expression)).result;
  const refused = (expression: string) => client.refused('evaluate', { expression, frameId, context: 'watch' });
  const unfold = async (reference: number): Promise<{ name: string; value: string; variablesReference: number }[]> =>
    (await client.request('variables', { variablesReference: reference })).variables;
  return { client, target, frameId, evaluate, show, refused, unfold };
}

test('expressions follow them', async (context) => {
  const { show } = await stopped(context);
  const table: [expression: string, expected: string][] = [
    ['to_pieces', '<synthetic pointer>'],
    ['*to_pieces', '{a = 3, b = 4, next = <synthetic pointer>}'],
    ['to_pieces->b', '4'],
    ['to_pieces.b', '4'],
    ['(*to_pieces).a', '3'],
    ['to_pieces[0].a', '3'],
    ['to_pieces->next->b', '11'],
    ['to_memory->a', '10'],
    ['&*to_memory', `0x${data.toString(16)}`],
    ['&to_memory->b', `0x${(data + 4n).toString(16)}`],
    ['*to_b', '11'],
    ['to_b[-1]', '10'],
    ['*to_register', '5'],
    ['*to_seven', '7'],
    ['*to_triple', '1'],
    ['to_triple[2]', '3'],
    ['to_triple[1..3]', '{2, 3}'],
    ['before_triple[1]', '1'],
    ['*before_triple', '<outside of the object>'],
    ['to_triple[3]', '<outside of the object>'],
    ['to_text[0..5]', '"\\177ELF"'],
    ['to_text[1]', "69 'E'"],
    ['**to_pointer', '{a = 3, b = 4, next = <synthetic pointer>}'],
    ['(*to_pointer)->next->a', '10'],
    ['to_itself', '<synthetic pointer>'],
    ['******to_itself', '<synthetic pointer>'],
    ['*to_nowhere', '<optimised out>'],
    ['*to_abstract', '6'],
    ['((struct pair *)to_b)->a', '11'],
    ['(int *)to_pieces', '<synthetic pointer>'],
    ['*(int *)to_pieces', '3'],
    ['((struct pair *)number)->b', '11'],
    ['(void *)to_pieces', '<synthetic pointer>'],
  ];
  for (const [expression, expected] of table) assert.equal(await show(expression), expected, expression);
});

test('they have no value to compute with, and nothing to watch', async (context) => {
  const { client, refused, frameId } = await stopped(context);
  for (const expression of ['to_pieces + 1', 'to_pieces == 0', '(int)to_pieces', '!to_pieces']) {
    assert.match(await refused(expression), /^The pointer was optimised away: /, expression);
  }
  assert.match(await refused('*(void *)to_pieces'), /void pointer must be cast/);
  assert.match(await refused('&to_pieces->a'), /Only something in memory has an address/);
  const watch = (name: string) => client.request('dataBreakpointInfo', { name, frameId });
  assert.equal((await watch('to_pieces')).dataId, null);
  assert.equal((await watch('to_memory->b')).dataId, `0x${(data + 4n).toString(16)}/4`);
});

test('the Variables view unfolds them, step by step', async (context) => {
  const { client, target, frameId, unfold, evaluate } = await stopped(context);
  const { scopes } = await client.request('scopes', { frameId });
  const locals = scopes.find(({ name }: { name: string }) => /local/i.test(name));
  const all = await unfold(locals.variablesReference);
  const reference = (name: string): number => all.find((each) => each.name === name)?.variablesReference ?? 0;
  const value = (name: string) => all.find((each) => each.name === name)?.value;
  assert.equal(value('unreadable'), '<cannot access memory at 0x1>', 'and the others are there');
  const members = await unfold(reference('to_pieces'));
  assert.deepEqual(
    members.map(({ name, value }) => [name, value]),
    [['a', '3'], ['b', '4'], ['next', '<synthetic pointer>']],
  ); // biome-ignore format: rows
  const next = await unfold(members[2]?.variablesReference ?? 0);
  assert.deepEqual(
    next.map(({ name, value }) => [name, value]),
    [['a', '10'], ['b', '11'], ['next', '0x1000']],
  ); // biome-ignore format: rows
  assert.deepEqual(
    (await unfold(reference('to_seven'))).map(({ name, value }) => [name, value]),
    [['*to_seven', '7']],
  );
  // A pointer to itself is as deep as somebody unfolds it.
  let ring = await unfold(reference('to_itself'));
  for (let depth = 0; depth < 3; depth++) {
    assert.equal(ring[0]?.value, '<synthetic pointer>');
    ring = await unfold(ring[0]?.variablesReference ?? 0);
  }
  assert.equal((await evaluate('to_pieces->a', 'hover')).result, '3');
  const changed = await client.request('setVariable', {
    variablesReference: reference('to_register'),
    name: '*to_register',
    value: '40',
  });
  assert.deepEqual([changed.value, target.get(0, 'x5')], ['40', 40n]);
});
