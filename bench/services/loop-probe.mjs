/**
 * Loaded into an agent by `node --import`: how much processor time goes by between two visits of the event loop to a
 * timer, which is that of the tasks between. Time in which the process does not run, because others do, is not in it.
 * Of the longest ones it notes the collections of the heap that fell into them.
 */
import { writeFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';

const file = '/run/isthmus/loop-probe.json';
const interval = 2;
let before = process.threadCpuUsage();
let last = performance.now();
/** By whole milliseconds. */
let seen = new Map();
/** Those above the limit of the benchmarks: when they began and ended. */
let late = [];
/** Collections of the heap. */
let collections = [];

new PerformanceObserver(list => {
  for (const { startTime, duration } of list.getEntries()) collections.push({ startTime, duration });
}).observe({ entryTypes: ['gc'] });
setInterval(() => {
  const { user, system } = process.threadCpuUsage(before);
  before = process.threadCpuUsage();
  const [from, to] = [last, performance.now()];
  last = to;
  const milliseconds = Math.floor((user + system) / 1000);
  seen.set(milliseconds, (seen.get(milliseconds) ?? 0) + 1);
  if (milliseconds > 22) late.push({ milliseconds, from, to });
}, interval).unref();
setInterval(() => {
  const tasks = late.map(task => ({
    ...task,
    collected: collections
      .filter(({ startTime }) => startTime >= task.from && startTime < task.to)
      .reduce((sum, { duration }) => sum + duration, 0),
  }));
  writeFileSync(file, JSON.stringify({ seen: Object.fromEntries(seen), late: tasks }));
}, 250).unref();
process.on('SIGUSR2', () => {
  seen = new Map();
  late = [];
  collections = [];
  before = process.threadCpuUsage();
});
