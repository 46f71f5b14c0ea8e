/** What is kept of a command in the lab; no lab is booted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LabProcess, type StartOptions } from '../../lab/lab.ts';

function printing(options: StartOptions, ...texts: readonly string[]): LabProcess {
  const process = new LabProcess(1, 'x', options, () => undefined);
  for (const text of texts) process.deliver({ is: 'output', id: 1, data: Buffer.from(text).toString('base64') });
  return process;
}

test('all that a command prints is kept, or as much of its end as was asked for', async () => {
  assert.equal(printing({}, 'one ', 'two ', 'three').output, 'one two three');
  const limited = printing({ outputLimit: 8 }, 'one ', 'two ', 'three');
  assert.equal(limited.output, 'wo three');
  await limited.waitFor(/three/);
  limited.deliver({ is: 'exit', id: 1, status: 0, signal: null });
  assert.deepEqual(await limited.ended, { status: 0, output: 'wo three' });
});
