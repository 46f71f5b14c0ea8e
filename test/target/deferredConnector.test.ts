import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { deferredConnector } from '../../src/target/kvm/deferredConnector.ts';

const { signal } = new AbortController();
const attach = (load: () => Promise<never>, loadNative: () => Promise<unknown> = async () => undefined) =>
  deferredConnector({ guardianPath: '/guardian.js' }, load, loadNative).attach({ pid: 1, exitTrap: 'auto' }, signal);
const unreached = (): Promise<never> => Promise.reject(new Error('loaded without koffi'));

test('nothing is loaded before the first guest', async () => {
  let loads = 0;
  const connector = deferredConnector({ guardianPath: '/guardian.js' }, async () => {
    loads++;
    throw new Error('loaded');
  });
  assert.equal(loads, 0);
  await assert.rejects(connector.attach({ pid: 1, exitTrap: 'auto' }, signal), /^Error: loaded$/);
  assert.equal(loads, 1);
});

test('without koffi the remedies are named, in one sentence', async () => {
  const causes = [
    Object.assign(new Error("Cannot find module 'koffi'"), { code: 'MODULE_NOT_FOUND' }),
    Object.assign(new Error("Cannot find package 'koffi'"), { code: 'ERR_MODULE_NOT_FOUND' }),
    Object.assign(new Error('wrong ELF class'), { code: 'ERR_DLOPEN_FAILED' }),
    // koffi's own, of a package for another platform
    new Error('Cannot find the native Koffi module; did you bundle it correctly?'),
  ];
  for (const cause of causes) {
    await assert.rejects(
      attach(unreached, () => Promise.reject(cause)),
      (error: Error) => {
        assert.ok(error instanceof UserError);
        assert.equal(error.cause, cause);
        assert.match(error.message, new RegExp(`^[^.]*install the one for linux-${process.arch}, [^.]*"remote"\\.$`));
        return true;
      },
    );
  }
});

test('what else goes wrong while it loads is not taken for that', async () => {
  const bug = new TypeError('bug');
  await assert.rejects(
    attach(() => Promise.reject(bug)),
    bug,
  );
});
