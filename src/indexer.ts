// dist/indexer.js: the worker in which the index of an image is built.
import { parentPort, workerData } from 'node:worker_threads';
import { runIndexer } from './symbols/index/indexer.ts';
import type { IndexerInput } from './symbols/index/nameIndex.ts';

if (parentPort === null) throw new Error('indexer.js is a worker of the debugger, not a program.');
runIndexer(workerData as IndexerInput, parentPort);
