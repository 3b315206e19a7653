// Draws one dashboard with Grafana's own components from window.preview:
// {dashboard, answers, from, to, step, mode}. answers has, for each panel
// (by its place among all panels) and refId, the matrix that Prometheus gave.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  FieldType,
  ThemeContext,
  applyFieldOverrides,
  createTheme,
  dateTime,
  getDisplayProcessor,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

const { dashboard, answers, from, to, step, mode } = window.preview;
const theme = createTheme({ colors: { mode } });
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-6h', to: 'now' } };
const column = 1 / 24;
const cell = 30; // Grafana's height of a grid unit
const gap = 8;

// legend fills in what {{label}} stands for.
const legend = (format, labels) => format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => labels[name] ?? '');

// configOf is a series' configuration: the panel's, and what it overrides by name.
function configOf(panel, name) {
  const { defaults, overrides } = structuredClone(panel.fieldConfig);
  for (const { matcher, properties } of overrides) {
    if (matcher.id !== 'byName') throw new Error(`${panel.title}: this preview knows no override ${matcher.id}`);
    if (matcher.options === name) Object.assign(defaults, Object.fromEntries(properties.map((p) => [p.id, p.value])));
  }
  return { ...defaults, displayNameFromDS: name };
}

// frames are a panel's answers as Grafana's data frames, each with its display.
function frames(panel, answer) {
  const data = [];
  for (const target of panel.targets) {
    for (const series of answer[target.refId] ?? []) {
      const times = series.values.map(([t]) => t * 1000);
      const values = series.values.map(([, v]) => (v === 'NaN' ? null : Number(v)));
      data.push({
        refId: target.refId,
        length: times.length,
        fields: [
          // The interval has Grafana leave gaps where points are missing.
          { name: 'Time', type: FieldType.time, config: { interval: 1000 * step }, values: times },
          {
            name: 'Value',
            type: FieldType.number,
            labels: series.metric,
            config: configOf(panel, legend(target.legendFormat, series.metric)),
            values,
          },
        ],
      });
    }
  }
  const out = applyFieldOverrides({
    data,
    fieldConfig: { defaults: {}, overrides: [] },
    replaceVariables: (v) => v,
    theme,
    timeZone: 'utc',
  });
  for (const frame of out) {
    for (const field of frame.fields) {
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
    }
  }
  return out;
}

// shown are the values of a panel that shows one for each series.
const shown = (panel, data) =>
  getFieldDisplayValues({
    fieldConfig: { defaults: {}, overrides: [] },
    reduceOptions: { values: false, ...panel.options.reduceOptions },
    replaceVariables: (v) => v,
    theme,
    data,
    sparkline: panel.type === 'stat' && panel.options.graphMode === 'area',
    timeZone: 'utc',
  });

function Stat({ panel, data, width, height }) {
  const values = shown(panel, data);
  const each = width / values.length;
  return (
    <div style={{ display: 'flex' }}>
      {values.map((v, i) => (
        <BigValue
          key={i}
          value={values.length === 1 ? { ...v.display, title: undefined } : v.display}
          sparkline={v.sparkline}
          colorMode={panel.options.colorMode}
          graphMode={panel.options.graphMode}
          text={panel.options.text}
          justifyMode={panel.options.justifyMode}
          textMode={panel.options.textMode}
          theme={theme}
          width={each}
          height={height}
        />
      ))}
    </div>
  );
}

function Bars({ panel, data, width, height }) {
  const values = shown(panel, data);
  const alignment = getDisplayValueAlignmentFactors(values);
  const each = Math.min(height / values.length, 60);
  return values.map((v, i) => (
    <BarGauge
      key={i}
      value={v.display}
      field={v.field}
      display={v.view?.getFieldDisplayProcessor?.(v.colIndex)}
      alignmentFactors={alignment}
      text={panel.options.text}
      orientation={panel.options.orientation}
      displayMode={panel.options.displayMode}
      theme={theme}
      width={width}
      height={each - 4}
    />
  ));
}

// States stands in for Grafana's state timeline, which @grafana/ui does not have.
function States({ data, width, height }) {
  const names = 260;
  const each = Math.min(height / Math.max(data.length, 1), 26);
  return (
    <svg width={width} height={height}>
      {data.map((frame, row) => {
        const [time, value] = frame.fields;
        const x = (t) => names + ((t / 1000 - from) / (to - from)) * (width - names);
        return (
          <g key={row} transform={`translate(0 ${row * each})`}>
            <text x={names - 6} y={each - 6} textAnchor="end" fill={theme.colors.text.primary} fontSize={Math.min(12, each - 2)}>
              {value.config.displayNameFromDS}
            </text>
            {time.values.map((t, i) => (
              <rect
                key={i}
                x={x(t)}
                width={Math.max(x(time.values[i + 1] ?? t) - x(t), 0) + 0.5}
                y={2}
                height={each - 4}
                fill={value.display(value.values[i]).color}
                opacity={0.8}
              />
            ))}
          </g>
        );
      })}
    </svg>
  );
}

function Curves({ panel, data, width, height }) {
  return (
    <TimeSeries
      frames={data}
      structureRev={1}
      width={width}
      height={height}
      timeRange={range}
      timeZone="utc"
      legend={panel.options.legend}
      options={panel.options}
    />
  );
}

const kinds = { stat: Stat, bargauge: Bars, timeseries: Curves, 'state-timeline': States };

function Panel({ panel, answer, width, height }) {
  const data = frames(panel, answer);
  const Kind = kinds[panel.type];
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(w, h) => {
        if (!Kind) return <b>this preview knows no {panel.type}</b>;
        if (!data.length) return <b className="empty">No data</b>;
        return <Kind panel={panel} data={data} width={w} height={h} />;
      }}
    </PanelChrome>
  );
}

// laid are rows and panels with those of collapsed rows.
const laid = dashboard.panels.flatMap((p) => [p, ...(p.panels ?? [])]);

function Board() {
  const full = document.documentElement.clientWidth - 2 * gap;
  const bottom = Math.max(...laid.map((p) => p.gridPos.y + p.gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', margin: gap, height: bottom * (cell + gap) + 40, fontFamily: theme.typography.fontFamily }}>
        <h1 style={{ fontSize: 20, height: 32, margin: 0 }}>{dashboard.title}</h1>
        {laid.map((p, i) => {
          const { x, y, w, h } = p.gridPos;
          const at = {
            position: 'absolute',
            left: x * column * full,
            top: 40 + y * (cell + gap),
          };
          if (p.type === 'row') {
            return (
              <h4 key={i} style={at}>
                {p.title}
              </h4>
            );
          }
          return (
            <div key={i} style={at}>
              <Panel panel={p} answer={answers[i] ?? {}} width={w * column * full - gap} height={h * (cell + gap) - gap} />
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

document.body.style.background = theme.colors.background.canvas;
document.body.style.color = theme.colors.text.primary;
await initPluginTranslations('nametap');
createRoot(document.getElementById('root')).render(<Board />);
