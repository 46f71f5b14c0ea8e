// @ts-check
/**
 * Runs commands in the lab for the process outside; protocol.ts says what they say to each other. Both speak over a
 * virtio-serial port, so command traffic and console messages never mix. JavaScript, so that it runs as it is.
 *
 * @import { ChildProcessByStdio } from 'node:child_process'
 * @import { Readable, Writable } from 'node:stream'
 * @import { Order, Report } from './protocol.ts'
 */
const { spawn } = require('node:child_process');
const { createReadStream, createWriteStream, openSync } = require('node:fs');
const { createInterface } = require('node:readline');

/** @type {Map<number, ChildProcessByStdio<Writable, Readable, null>>} */
const jobs = new Map();

/** @param {Extract<Order, { do: 'start' }>} order */
function start(order) {
  const { id, command, cwd, env } = order;
  // Its own process group: a kill reaches all that the command started. One pipe keeps the order of what it prints.
  const child = spawn('/bin/sh', ['-c', `exec 2>&1\n${command}`], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: cwd ?? '/root',
    env: { ...process.env, ...env },
  });
  jobs.set(id, child);
  let turnsWithoutOutput = 0;
  child.stdout.on('data', (data) => {
    turnsWithoutOutput = 0;
    report({ is: 'output', id, data: data.toString('base64') });
  });
  child.stdin.on('error', () => {}); // the command need not read its input
  child.on('error', (error) => {
    report({ is: 'output', id, data: Buffer.from(`${error.message}\n`).toString('base64') });
    report({ is: 'exit', id, status: 127, signal: null });
  });
  // A background process may hold the pipe open after the command has ended, so its closing is not awaited: all that was
  // written by then is in the pipe, and has been read when the event loop turns without finding more.
  child.on('exit', (status, signal) => {
    const drain = () => {
      if (turnsWithoutOutput++ < 3) setImmediate(drain);
      else report({ is: 'exit', id, status, signal });
    };
    drain();
  });
  child.on('close', () => jobs.delete(id));
}

/**
 * @param {number} id
 * @param {NodeJS.Signals} signal
 */
function kill(id, signal) {
  const pid = jobs.get(id)?.pid;
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // Already gone.
  }
}

/** @param {Order} order */
function carryOut(order) {
  if (order.do === 'start') start(order);
  else if (order.do === 'kill') kill(order.id, order.signal);
  else if (order.data === undefined) jobs.get(order.id)?.stdin.end();
  else jobs.get(order.id)?.stdin.write(Buffer.from(order.data, 'base64'));
}

// The port takes one opener at a time, so both directions share a descriptor.
const port = openSync(process.argv[2] ?? '', 'r+');
const outgoing = createWriteStream('', { fd: port });
/** @param {Report} line */
const report = (line) => outgoing.write(`${JSON.stringify(line)}\n`);
outgoing.on('error', () => process.exit(1));

// A write waits until the outer end is connected; a read would take the wait for the end of the connection.
outgoing.write(`${JSON.stringify({ is: 'ready' })}\n`, () => {
  const incoming = createReadStream('', { fd: port });
  createInterface({ input: incoming }).on('line', (line) => carryOut(JSON.parse(line)));
  // The outer end has closed, however its process died: the machine is to go too.
  incoming.on('end', () => process.exit(0));
  incoming.on('error', () => process.exit(1));
});
