import { readdirSync, readFileSync } from 'node:fs';

/** Milliseconds that the threads of a process have run, to the nanosecond: proc(5) schedstat; stat has ticks of 10 ms. */
export function threadTime(pid: number): number {
  const folder = `/proc/${pid}/task`;
  const ran = readdirSync(folder).map(thread =>
    Number(readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ')[0]),
  );
  return ran.reduce((sum, each) => sum + each, 0) / 1e6;
}
