/** What a command that takes a while tells the person who waits. */
export type Report = (line: string) => void;

/** Names the steps of a long command as they end, with the time since its start. */
export class Timeline {
  readonly #start = performance.now();
  readonly #report: Report;
  readonly #verbose: boolean;

  constructor(report: Report, verbose: boolean) {
    this.#report = report;
    this.#verbose = verbose;
  }

  /** Seconds since the start. */
  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** A step that everybody wants to see. */
  step(text: string): void {
    this.#report(this.#verbose ? `${this.#stamp()}  ${text}` : text);
  }

  /** A detail of where the time goes. */
  detail(text: string): void {
    if (this.#verbose) this.#report(`${this.#stamp()}    ${text}`);
  }

  /** Times one piece of work as a detail. */
  async timed<T>(text: string, work: Promise<T> | (() => Promise<T>)): Promise<T> {
    const before = performance.now();
    const result = await (typeof work === 'function' ? work() : work);
    this.detail(`${text} (${Math.round(performance.now() - before)} ms)`);
    return result;
  }

  #stamp(): string {
    return `${this.seconds.toFixed(2).padStart(6)}s`;
  }
}
