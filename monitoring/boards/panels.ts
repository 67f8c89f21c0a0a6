// Panels in the house style, on Grafana's own builders: few kinds, each with a unit, a legend and one question.
import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  BigValueGraphMode,
  BigValueTextMode,
  type DataSourceRef,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  VizLegendOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';

/** Chosen at the top of each board. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's own placeholder
const DATASOURCE: DataSourceRef = { type: 'prometheus', uid: '${datasource}' };
/** Of a board's 24 columns. */
const STAT_WIDTH = 4;
const STAT_HEIGHT = 4;
const GRAPH_WIDTH = 8;
const GRAPH_HEIGHT = 8;

export type Unit = 'short' | 'bytes' | 's' | 'percentunit' | 'Bps' | 'ops' | 'dateTimeFromNow';

/** A query, and what its lines are called. */
export interface Query {
  expr: string;
  legend: string;
}

interface Look {
  unit: Unit;
  /** What the panel answers, for the hint at its title. */
  description: string;
  /** From here on a figure is worth a look, and from here on it is bad. */
  warnFrom?: number;
  badFrom?: number;
  /** The same for a figure that is bad when it is low. */
  badBelow?: number;
  max?: number;
  /** Of one figure: its legend is what to read, the value is always 1. */
  showLegend?: true;
  /** Of one figure: columns, where there are fewer than six beside each other. */
  width?: number;
}

function target({ expr, legend }: Query, index: number): DataqueryBuilder {
  return new DataqueryBuilder()
    .expr(expr)
    .legendFormat(legend)
    .refId(String.fromCharCode(65 + index));
}

function thresholds({ warnFrom, badFrom, badBelow }: Look): ThresholdsConfigBuilder {
  const steps: Threshold[] = [{ value: null, color: badBelow === undefined ? 'green' : 'red' }];
  if (badBelow !== undefined) steps.push({ value: badBelow, color: 'green' });
  if (warnFrom !== undefined) steps.push({ value: warnFrom, color: 'orange' });
  if (badFrom !== undefined) steps.push({ value: badFrom, color: 'red' });
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps);
}

/** One figure as it is now. */
export function stat(title: string, query: Query, look: Look): Builder<Panel> {
  const panel = new Stat()
    .title(title)
    .description(look.description)
    .datasource(DATASOURCE)
    .unit(look.unit)
    .thresholds(thresholds(look))
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .graphMode(look.showLegend ? BigValueGraphMode.None : BigValueGraphMode.Area)
    .textMode(look.showLegend ? BigValueTextMode.Name : BigValueTextMode.Auto)
    .span(look.width ?? STAT_WIDTH)
    .height(STAT_HEIGHT)
    .withTarget(look.showLegend ? target(query, 0).instant() : target(query, 0));
  return look.max === undefined ? panel : panel.max(look.max);
}

/** Lines over time; the table below them is sorted by the last value. */
export function graph(title: string, queries: readonly Query[], look: Look): Builder<Panel> {
  const panel = new TimeSeries()
    .title(title)
    .description(look.description)
    .datasource(DATASOURCE)
    .unit(look.unit)
    .min(0)
    .fillOpacity(10)
    .thresholds(thresholds(look))
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.Table)
        .placement(LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(['lastNotNull', 'max'])
        .sortBy('Last *')
        .sortDesc(true),
    )
    .span(GRAPH_WIDTH)
    .height(GRAPH_HEIGHT)
    .targets(queries.map(target));
  return look.max === undefined ? panel : panel.max(look.max);
}

/** A board with the variable `datasource`, over the last hour. */
export function dashboard(uid: string, title: string, description: string): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['bulkhead'])
    .time({ from: 'now-1h', to: 'now' })
    .refresh('30s')
    .editable()
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'));
}

/** A variable with the values of a label of some series. */
export function labelVariable(name: string, label: string, series: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .datasource(DATASOURCE)
    .query(`label_values(${series}, ${label})`)
    .refresh(VariableRefresh.OnTimeRangeChanged);
}
