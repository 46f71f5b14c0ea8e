import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type GuestStatus, statusDetails, statusText } from '../../src/extension/statusText.ts';

const status: GuestStatus = {
  state: 'stopped',
  vmm: 'lkvm',
  pid: 4711,
  vcpus: 1,
  exitTrap: 'perf',
  hardwareBreakpoints: { used: 1, total: 6 },
  watchpoints: { used: 0, total: 4 },
};

test('the status bar says what the guest runs in and how many hardware breakpoints are in use', () => {
  assert.equal(statusText(status), '$(debug-pause) lkvm: 1 vCPU, HW 1/6');
  assert.equal(statusText({ ...status, state: 'running', vcpus: 4 }), '$(vm-running) lkvm: 4 vCPUs, HW 1/6');
  const details = new Map(statusDetails({ ...status, symbols: '/build/vmlinux' }));
  assert.equal(details.get('VMM'), 'lkvm (pid 4711)');
  assert.equal(details.get('Watchpoints'), '0/4 in use');
  assert.equal(details.get('Symbols'), '/build/vmlinux');
  assert.equal(new Map(statusDetails(status)).get('Symbols'), 'none');
});

test('of a remote stub it says where that is', () => {
  const { vmm: _vmm, pid: _pid, exitTrap: _exitTrap, ...others } = status;
  const remote = { ...others, target: 'remote stub localhost:1234' };
  assert.equal(statusText(remote), '$(debug-pause) remote stub localhost:1234: 1 vCPU, HW 1/6');
  const details = new Map(statusDetails(remote));
  assert.deepEqual(
    [details.get('Target'), details.has('VMM'), details.has('Exit trap')],
    [remote.target, false, false],
  );
});
