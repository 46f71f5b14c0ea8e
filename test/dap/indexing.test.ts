// The index of names, built beside a session that begins: what the client sees of it, and what is when it fails.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { buildSample } from '../support/dwarfSample.ts';
import { temporaryFile } from '../support/elfBuilder.ts';
import { fakeSymbols } from '../support/fakeKernel.ts';
import { type FakeOptions, fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';

async function launched(options: FakeOptions, features: object = { supportsProgressReporting: true }) {
  const fake = fakeSession(options);
  await fake.client.request('initialize', { ...initialization, ...features });
  await fake.client.request('launch', launchArguments);
  await fake.client.waitFor('initialized');
  await fake.client.request('configurationDone');
  await fake.client.waitFor('stopped');
  return fake;
}

type Index = (typeof fakeSymbols)['indexNames'];
const indexedBy = (indexNames: Index): FakeOptions => ({ symbolFile: { ...fakeSymbols, indexNames } });
const progressEvents = ({ client }: { client: { transcript: readonly { event?: string; body?: unknown }[] } }) =>
  client.transcript
    .filter(({ event }) => event?.startsWith('progress'))
    .map(({ event, body }) => ({ event, ...(body as { progressId: string }) }));

const threeSteps: Index = async (progress) => {
  for (const done of [64, 65, 1300, 2600, 2600]) progress?.(done, 2600);
};

test('a client that shows progress sees the index being built', async () => {
  const events = progressEvents(await launched(indexedBy(threeSteps)));
  const progressId = events[0]?.progressId;
  assert.ok(progressId);
  assert.deepEqual(events, [
    { event: 'progressStart', progressId, title: 'Indexing vmlinux', cancellable: true, percentage: 2 },
    { event: 'progressUpdate', progressId, percentage: 50 },
    { event: 'progressUpdate', progressId, percentage: 100 },
    { event: 'progressEnd', progressId },
  ]);
  const other = progressEvents(await launched(indexedBy(threeSteps)));
  assert.notEqual(other[0]?.progressId, progressId, 'another report');
});

test('no other client does, nor is there anything to see when the index is there', async () => {
  assert.deepEqual(progressEvents(await launched(indexedBy(threeSteps), {})), []);
  assert.deepEqual(progressEvents(await launched(indexedBy(async () => undefined))), []);
});

test('a session does not wait for its index; what is under way ends with the session, and with a launch that fails', async () => {
  const started: Index = (progress) => {
    progress?.(1, 2);
    return new Promise(() => undefined);
  };
  const fake = await launched(indexedBy(started));
  assert.deepEqual(
    progressEvents(fake).map(({ event }) => event),
    ['progressStart'],
  );
  await fake.client.request('disconnect', {});
  assert.deepEqual(
    progressEvents(fake).map(({ event }) => event),
    ['progressStart', 'progressEnd'],
  );

  const refused = fakeSession({ ...indexedBy(started), connect: () => Promise.reject(new Error('no VMM')) });
  await refused.client.request('initialize', { ...initialization, supportsProgressReporting: true });
  await refused.client.refused('launch', launchArguments);
  assert.deepEqual(
    progressEvents(refused).map(({ event }) => event),
    ['progressStart', 'progressEnd'],
  );
});

test('the index can be cancelled, and names are looked up without', async () => {
  const untilAborted: Index = (progress, abandoned) => {
    progress?.(1, 2);
    return new Promise((resolve) => abandoned?.addEventListener('abort', () => resolve()));
  };
  const fake = await launched(indexedBy(untilAborted));
  const progressId = progressEvents(fake)[0]?.progressId;
  await fake.client.request('cancel', { progressId: 'another' });
  assert.equal(progressEvents(fake).length, 1);
  await fake.client.request('cancel', { progressId });
  await fake.client.waitFor('progressEnd');
  assert.match(fake.client.outputText('console'), /without an index, which is slow: its making was cancelled\.\n/);
});

test('a VM that takes its time to start is shown, and can be cancelled', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  let cancelled = false;
  const fake = fakeSession({
    connect: (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          cancelled = true;
          reject(new Error('gone'));
        });
      }),
  });
  await fake.client.request('initialize', { ...initialization, supportsProgressReporting: true });
  const refused = fake.client.refused('launch', launchArguments);
  await fake.client.request('cancel', {}); // the launch is under way
  assert.deepEqual(progressEvents(fake), []);
  context.mock.timers.tick(500);
  const { body } = await fake.client.waitFor('progressStart');
  assert.deepEqual([body.title, body.cancellable], ['Starting the VM', true]);
  await fake.client.request('cancel', { progressId: body.progressId });
  await refused;
  assert.equal(cancelled, true);
  await fake.client.waitFor('progressEnd');
});

/** A session on this image, whose index is built in this thread. */
const onImage = (context: TestContext, image: Uint8Array, cacheFolder: string) => {
  const path = temporaryFile(context, image, 'vmlinux');
  const openSymbols: FakeOptions['openSymbols'] = (_path, warn) => SymbolFile.open(path, { cacheFolder, warn });
  return launched({ openSymbols });
};

const temporaryFolder = (context: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
};

const sentences = (fake: Awaited<ReturnType<typeof launched>>): string[] =>
  fake.client.outputText('console').split('\n').filter((line) => /index/.test(line)); // biome-ignore format: one chain

test('a damaged file costs the index, with one sentence, and not the names that are whole', async (context) => {
  const image = buildSample();
  // The abbreviation of an entry of the second unit is not declared.
  const path = temporaryFile(context, image);
  const file = SymbolFile.open(path);
  const { dies } = file.names ?? assert.fail('no debug information');
  const [, second] = dies.units.headers();
  const [entry] = dies.children(dies.at((second ?? assert.fail('one unit')).firstDie));
  file.close();
  image[sectionOffset(image, '.debug_info') + (entry?.offset ?? 0)] = 0x7f;
  const fake = await onImage(context, image, temporaryFolder(context));
  assert.equal(sentences(fake).length, 1, fake.client.outputText('console'));
  assert.match(
    sentences(fake)[0] ?? '',
    /^Names are searched for without an index, because it could not be built: .*abbreviation 127 is not declared\.$/,
  );
  assert.deepEqual(progressEvents(fake), []);
  const evaluate = async (expression: string): Promise<string> =>
    (await fake.client.request('evaluate', { expression, context: 'repl' })).result;
  assert.equal(await evaluate('sizeof(struct node)'), '64');
  assert.equal(await evaluate('sizeof(handler)'), '8');
  // No unit has a typedef of that name, so all that mention it are looked through.
  assert.equal(await evaluate('sizeof(char)'), '1');
  const { breakpoints } = await fake.client.request('setFunctionBreakpoints', {
    breakpoints: [{ name: 'start_here' }],
  });
  assert.match(breakpoints[0].instructionReference, /^0xffff80000900/);
});

test('a cache that cannot be written costs the next session its index, with one sentence', async (context) => {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'file'), '');
  const fake = await onImage(context, buildSample(), join(folder, 'file', 'symbols'));
  assert.equal(sentences(fake).length, 1, fake.client.outputText('console'));
  assert.match(sentences(fake)[0] ?? '', /^The index of names is not kept: .*\.$/);
  assert.deepEqual(
    progressEvents(fake).map(({ event }) => event),
    ['progressStart', 'progressEnd'],
  );
  const { result } = await fake.client.request('evaluate', { expression: 'sizeof(struct node)', context: 'repl' });
  assert.equal(result, '64');
});

/** Offset in the file of a section's bytes (Elf64_Shdr). */
function sectionOffset(image: Uint8Array, name: string): number {
  const view = new DataView(image.buffer);
  const table = Number(view.getBigUint64(40, true));
  const count = view.getUint16(60, true);
  const header = (index: number): number => table + 64 * index;
  const offsetOf = (index: number): number => Number(view.getBigUint64(header(index) + 24, true));
  const names = offsetOf(view.getUint16(62, true));
  for (let index = 0; index < count; index++) {
    const at = names + view.getUint32(header(index), true);
    if (Buffer.from(image.subarray(at, at + name.length + 1)).toString() === `${name}\0`) return offsetOf(index);
  }
  throw new Error(`no section ${name}`);
}
