// How plain integers and registers are shown.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { temporaryFile } from '../support/elfBuilder.ts';
import { base, data, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';
import { implicitPointerImage } from '../support/implicitPointers.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;

interface Shown {
  readonly name: string;
  readonly value: string;
  readonly variablesReference: number;
}

/** Stopped with x5 = 305419896, x6 = an address, and struct pair {10, -1, 0x1000} in memory. */
async function stopped(context: TestContext) {
  const path = temporaryFile(context, implicitPointerImage());
  const target = fakeGuest(1, { mapped: true });
  target.set(0, 'x5', 0x1234_5678n);
  target.set(0, 'x6', 0xffff_8000_0801_0000n);
  target.load(data, Uint8Array.of(10, 0, 0, 0, 255, 255, 255, 255, 0, 16, 0, 0, 0, 0, 0, 0));
  const fake = await atEntry({ target, symbolFile: SymbolFile.open(path, { cacheFolder: '/proc/none' }) });
  const { client } = fake;
  const evaluate = async (expression: string, more: object = {}): Promise<string> =>
    (await client.request('evaluate', { expression, ...more })).result;
  const scope = async (wanted: string, more: object = {}): Promise<ReadonlyMap<string, Shown>> => {
    const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
    const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
    const { variablesReference } = scopes.find(({ name }: Shown) => name === wanted);
    const { variables } = await client.request('variables', { variablesReference, ...more });
    return new Map(variables.map((variable: Shown) => [variable.name, variable]));
  };
  const radix = (value: string) => client.request('kvm/numberFormat', { radix: value });
  return { ...fake, evaluate, scope, radix };
}

const pair = `*(struct pair *)${hex(data)}`;

test('integers in hexadecimal; pointers and names stay', async (context) => {
  const { evaluate, scope, radix } = await stopped(context);
  assert.equal(await evaluate(pair), '{a = 10, b = -1, next = 0x1000}');
  assert.deepEqual(await radix('hexadecimal'), { radix: 'hexadecimal' });
  assert.equal(await evaluate(pair), '{a = 0xa, b = 0xffffffff, next = 0x1000}');
  assert.equal(await evaluate(pair, { context: 'hover' }), '{a = 0xa, b = 0xffffffff, next = 0x1000}');
  assert.equal(await evaluate(`${pair},d`), '{a = 10, b = -1, next = 4096}', 'a format in the expression comes first');
  assert.equal(await evaluate('2 * (3 + 4)'), '0xe');
  assert.equal(await evaluate('$x5'), '0x12345678');
  assert.equal((await scope('General')).get('x5')?.value, '0x12345678');
  await radix('default');
  assert.equal(await evaluate('2 * (3 + 4)'), '14');
  assert.equal(await evaluate('$x5'), '0x12345678 (305419896)');
});

test('registers in decimal, but for what is an address or made of fields', async (context) => {
  const { client, evaluate, scope, radix, target } = await stopped(context);
  await radix('decimal');
  const general = await scope('General');
  assert.equal(general.get('x5')?.value, '305419896');
  assert.equal(general.get('x6')?.value, '0xffff800008010000');
  assert.equal(general.get('pc')?.value, hex(base));
  assert.equal(general.get('pstate')?.value, '0x3c5');
  for (const name of ['sp', 'x29', 'x30']) assert.match(general.get(name)?.value ?? '', /^0x/, name);
  const { variables: fields } = await client.request('variables', {
    variablesReference: general.get('pstate')?.variablesReference,
  });
  assert.equal(fields.find(({ name }: Shown) => name === 'M').value, '5 (EL1h)');
  assert.equal(await evaluate('$x5'), '305419896 (0x12345678)');
  assert.equal(await evaluate('$x29'), '0x0');
  assert.equal(await evaluate('$pc'), `${hex(base)} <start_kernel>`);
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
  const { variablesReference } = scopes.find(({ name }: Shown) => name === 'General');
  const written = await client.request('setVariable', { variablesReference, name: 'x5', value: '0x10' });
  assert.deepEqual([written.value, target.get(0, 'x5')], ['16', 16n]);
});

test("the protocol's own value format counts for its request only", async (context) => {
  const { client, evaluate, scope } = await stopped(context);
  const format = { hex: true };
  assert.equal(await evaluate(pair, { format }), '{a = 0xa, b = 0xffffffff, next = 0x1000}');
  assert.equal(await evaluate(pair), '{a = 10, b = -1, next = 0x1000}');
  const { variablesReference } = await client.request('evaluate', { expression: pair });
  const values = async (more: object) =>
    (await client.request('variables', { variablesReference, ...more })).variables.map(({ value }: Shown) => value);
  assert.deepEqual(await values({ format }), ['0xa', '0xffffffff', '0x1000']);
  assert.deepEqual(await values({}), ['10', '-1', '0x1000']);
  const set = { variablesReference, name: 'a', value: '17' };
  assert.equal((await client.request('setVariable', { ...set, format })).value, '0x11');
  assert.equal((await client.request('setVariable', set)).value, '17');
  const expression = { expression: `((struct pair *)${hex(data)})->a`, value: '18' };
  assert.equal((await client.request('setExpression', { ...expression, format })).value, '0x12');
  assert.equal((await scope('General', { format })).get('x5')?.value, '0x12345678');
  assert.match(
    await client.refused('evaluate', { expression: '1', format: { hex: 1 } }),
    /"hex" must be true or false/,
  );
});

test('it is there before the guest, refuses other words, and says that values look otherwise now', async () => {
  for (const supportsInvalidatedEvent of [true, false]) {
    const { client } = fakeSession();
    await client.request('initialize', { ...initialization, supportsInvalidatedEvent });
    assert.match(await client.refused('kvm/numberFormat'), /kvm\/numberFormat: "radix" is missing/);
    assert.match(await client.refused('kvm/numberFormat', { radix: 'octal' }), /"radix" must be one of "hexadecimal"/);
    assert.deepEqual(client.events('invalidated'), []);
    const { response } = client.send('kvm/numberFormat', { radix: 'hexadecimal' });
    const at = client.transcript.indexOf(await response);
    await client.request('launch', launchArguments);
    const events = client.events('invalidated');
    assert.deepEqual(
      events.map(({ body }) => body),
      supportsInvalidatedEvent ? [{ areas: ['variables'] }] : [],
    );
    for (const event of events) assert.ok(client.transcript.indexOf(event) > at, 'behind the response');
    await client.waitFor('initialized');
    await client.request('configurationDone');
    await client.waitFor('stopped');
    assert.equal((await client.request('evaluate', { expression: '15' })).result, '0xf');
  }
});
