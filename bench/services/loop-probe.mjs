/**
 * Loaded into an agent by `node --import`: how much processor time goes by between two visits of the event loop to a
 * timer, which is that of the tasks between. Time in which the process does not run, because others do, is not in it.
 */
import { writeFileSync } from 'node:fs';

const file = '/run/isthmus/loop-probe.json';
const interval = 2;
let before = process.threadCpuUsage();
/** By whole milliseconds. */
let seen = new Map();

setInterval(() => {
  const { user, system } = process.threadCpuUsage(before);
  before = process.threadCpuUsage();
  const milliseconds = Math.floor((user + system) / 1000);
  seen.set(milliseconds, (seen.get(milliseconds) ?? 0) + 1);
}, interval).unref();
setInterval(() => {
  writeFileSync(file, JSON.stringify(Object.fromEntries(seen)));
}, 250).unref();
process.on('SIGUSR2', () => {
  seen = new Map();
  before = process.threadCpuUsage();
});
