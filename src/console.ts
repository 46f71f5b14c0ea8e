// The program that runs in the client's terminal: joins it to the guest's serial console over the adapter's socket.
import { connect } from 'node:net';

const [path] = process.argv.slice(2);
if (path === undefined) {
  process.stderr.write('usage: console.js SOCKET\n');
  process.exit(2);
}
const socket = connect(path);
socket.on('connect', () => {
  // Every key is the guest's, Ctrl-C too.
  if (process.stdin.isTTY) process.stdin.setRawMode(true);
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
});
const end = (code: number): void => {
  if (process.stdin.isTTY) process.stdin.setRawMode(false);
  process.exit(code);
};
socket.on('error', (error) => {
  process.stderr.write(`The guest's console cannot be reached: ${error.message}\n`);
  end(1);
});
socket.on('close', () => end(0));
